"""Commands that a page says are run by a test are run, and print what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from firerunner.settings import load_settings
from tests.docs.computer import Computer, computer
from tests.docs.pages import COMMANDS, Block, Step, blocks


def turn(block: Block) -> int:
    """Secrets are made before GitLab gets them, a set-up from nothing is shown, then there is a service."""
    if "openssl rand" in block.text:
        return 0
    return 1 if "[y/N]" in block.text else 2


BLOCKS = sorted((block for block in blocks(*COMMANDS) if block.marked_run), key=turn)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Computer]:
    with computer(tmp_path_factory.mktemp("docs")) as made:
        yield made


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_does_what_it_shows(here: Computer, block: Block) -> None:
    if turn(block) == 2:
        here.start()

    ran = here.run(block)

    assert ran.status == 0, ran.output
    printed = ran.output.splitlines()
    for step in block.steps:
        printed = after(here, step, printed, ran.output)


def after(here: Computer, step: Step, printed: list[str], whole: str) -> list[str]:
    """What was printed after the lines that the page shows. Numbers may differ; `…` stands for anything."""
    for line in step.output:
        wanted = re.compile(pattern(here.here(line)))
        while printed and not wanted.fullmatch(" ".join(printed[0].split())):
            printed = printed[1:]
        assert printed, f"nothing like {line!r} after `{step.command}` in:\n{whole}"
        printed = printed[1:]
    return printed


def pattern(line: str) -> str:
    words = " ".join(line.split())
    if re.fullmatch(r"[─ ]+", words):
        return r"[─ ]+"
    return re.sub(r"\d+(\\\.\d+)?", r"[\\d.]+", re.escape(words).replace("…", ".*"))


def test_the_configuration_that_the_first_page_writes_is_taken(here: Computer) -> None:
    block = next(block for block in BLOCKS if "cat > /etc/firerunner/config.yaml" in block.text)
    here.start()
    here.run(block)

    written = here.etc / "config.yaml"
    (here.etc / "small.token").touch()
    settings = load_settings(written)

    assert [pool.name for pool in settings.pools] == ["small"]
    assert yaml.safe_load(written.read_text())["pools"][0]["runner_token_file"] == "small.token"


def test_a_page_that_shows_something_else_is_caught(here: Computer) -> None:
    here.start()
    wrong = Block("page.md", 1, "console", "", True, "$ firerunner key check\nall is lost\n")
    ran = here.run(wrong)

    with pytest.raises(AssertionError, match="nothing like 'all is lost'"):
        after(here, wrong.steps[0], ran.output.splitlines(), ran.output)
    assert here.run(Block("page.md", 1, "console", "", True, "$ firerunner key chekc\n")).status == 2


def test_paths(tmp_path: Path) -> None:
    """`here` leaves alone what only looks like one of its names."""
    made = Computer(tmp_path, {"gitlab": "http://127.0.0.1:1"})

    assert made.here("x/tmp/y HOSTS GHOST") == "x/tmp/y HOSTS GHOST"
    assert made.here("doctor --host HOST > /tmp/x") == f"doctor --host kvm-1 > {tmp_path}/tmp/x"
