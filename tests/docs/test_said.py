"""The pages say what the program takes: configuration, commands, verbs, files and the marks of blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from firerunner.cli.main import app
from firerunner.settings import Settings, load_settings
from tests.docs.pages import COMMANDS, NOT_RUN, ROOT, Block, blocks, rows_of, spans

COMMAND = re.compile(r"(?:^|[;&|(]\s*|\s-- )(?:\w+=\S+ )*(?P<command>firerunner [^|>;&#\n)]*)")
MAKE = re.compile(r"^(?:\w+=\S+ )*make (?P<verb>[a-z-]+)")
OURS = re.compile(r"^(?:deploy|scripts|tests|bench(?!/out)|requirements|docs)/[\w./-]+$")

POOL = {"name": "x", "image": "default", "runner_token": "glrt-x"}
BASE = {"gitlab": {"url": "https://gitlab.example.com"}, "pools": [POOL]}


def configurations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Blocks with sections of ours; others are GitLab's, nginx's or Traefik's."""
    for block in blocks("yaml"):
        said = yaml.safe_load(block.text)
        if isinstance(said, dict) and set(said) & set(Settings.model_fields) and "script" not in block.text:
            yield str(block), said


def completed(said: dict[str, Any]) -> dict[str, Any]:
    """The rest of a configuration around a piece of it."""
    whole = BASE | said
    gitlabs = whole["gitlab"] if isinstance(whole["gitlab"], list) else [whole["gitlab"]]
    whole["gitlab"] = [BASE["gitlab"] | each for each in gitlabs]
    first = whole["gitlab"][0].get("name", "gitlab")
    whole["pools"] = [
        (POOL | {"name": f"x{number}", "gitlab": first} | each)
        if "sized" not in each and "runner_token_file" not in each
        else {"image": "default", "gitlab": first} | each
        for number, each in enumerate(whole["pools"])
    ]
    return whole


@pytest.mark.parametrize(("name", "said"), list(configurations()), ids=lambda value: str(value)[:30])
def test_what_a_page_configures_is_taken(name: str, said: dict[str, Any], tmp_path: Path) -> None:
    whole = completed(said)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(_with_files_here(whole, tmp_path)))

    load_settings(path)


def _with_files_here(said: Any, folder: Path) -> Any:
    """Each file that is named, made with a content of its kind."""
    if isinstance(said, list):
        return [_with_files_here(each, folder) for each in said]
    if not isinstance(said, dict):
        return said
    made = {}
    for key, value in said.items():
        made[key] = _with_files_here(value, folder)
        ledgers_own = key == "key_file" and "cert_file" not in said
        if key.endswith("_file") and isinstance(value, str) and not ledgers_own:
            file = folder / Path(value).name
            file.write_text("whsec_" + "A" * 43 + "=" if "signing" in key else f"glrt-{key}-{'x' * 32}")
            made[key] = str(file)
    return made


def keys() -> Iterator[tuple[str, str]]:
    """What stands in running text as a key of the configuration, such as `hosts[].vcpu`."""
    old = " ".join(row[0] for row in rows_of((ROOT / "docs" / "migration.md").read_text(), "old key"))
    for page, span in spans():
        first, dot, _ = span.partition(".")
        if (
            dot
            and f"`{span}`" not in old
            and first.removesuffix("[]") in Settings.model_fields
            and re.fullmatch(r"[\w.\[\]]+", span)
        ):
            yield page, span


@pytest.mark.parametrize("key", sorted({key for _, key in keys()}))
def test_every_key_that_a_page_names_is_one(key: str) -> None:
    schema = Settings.schema_for_editors()
    here = [schema]
    for name in key.replace("[]", "").split("."):
        below = [each["properties"][name] for each in here if name in each.get("properties", {})]
        assert below, f"no {name!r} there"
        here = [each for one in below for each in parts(one, schema["$defs"])]


def parts(said: dict[str, Any], models: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The sections that a key may hold, itself or in a list."""
    yield said
    if "$ref" in said:
        yield from parts(models[said["$ref"].rpartition("/")[2]], models)
    for each in (*said.get("anyOf", ()), *([said["items"]] if "items" in said else ())):
        yield from parts(each, models)


def commands() -> set[str]:
    """Every `firerunner …` of the pages, in blocks and in running text."""
    said = [step.command.replace("\\\n", " ") for block in blocks(*COMMANDS) for step in block.steps]
    said += [span for _, span in spans() if span.startswith("firerunner ")]
    return {" ".join(found["command"].split()) for text in said for found in COMMAND.finditer(text)}


@pytest.mark.parametrize("command", sorted(commands()))
def test_what_a_page_tells_to_run_is_understood(command: str) -> None:
    current: Any = typer.main.get_command(app)
    words = [word for word in shlex.split(command)[1:] if word != "…"]
    while words and words[0][0] != "-" and (below := getattr(current, "commands", None)):
        if words[0].isupper():  # COMMAND stands for any of them
            return
        assert words[0] in below, f"no {words[0]!r}; known: {sorted(below)}"
        current = below[words.pop(0)]
    known = {
        option for parameter in current.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    options = {word.partition("=")[0] for word in words if word.startswith("-")}

    assert options - known - {"--help", "--install-completion", "--show-completion"} == set()


def test_every_verb_of_make_that_a_page_names_is_one() -> None:
    makefile = (ROOT / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    said = {
        (str(block), found["verb"])
        for block in blocks(*COMMANDS)
        for step in block.steps
        if (found := MAKE.match(step.command))
    }
    said |= {(page, found["verb"]) for page, span in spans() if (found := MAKE.match(span))}

    assert len(said) > 20
    assert {each for each in said if each[1] not in verbs} == set()


def test_every_file_of_the_repository_that_a_page_names_is_there() -> None:
    words = {(page, word) for page, span in spans() for word in span.split() if OURS.match(word)}
    words |= {
        (str(block), word)
        for block in blocks(*COMMANDS)
        for step in block.steps
        for word in step.command.split()
        if OURS.match(word)
    }

    assert len(words) > 20
    assert {each for each in words if not (ROOT / each[1]).exists()} == set()


def is_marked(block: Block) -> bool:
    return block.marked_run != bool(NOT_RUN.search(block.info))


def test_every_block_of_commands_says_whether_a_test_runs_it() -> None:
    unmarked = [str(block) for block in blocks(*COMMANDS) if not is_marked(block) and not block.is_make_alone]

    assert unmarked == [], (
        "write `<!-- run by a test -->` on the line before the block, and tests/docs/test_run.py runs it; "
        'or after its language title="not run by a test: WHY"'
    )


def test_there_is_something_to_hold_the_pages_to() -> None:
    assert len(list(configurations())) > 8
    assert len(commands()) > 40
    assert sum(block.marked_run for block in blocks(*COMMANDS)) > 30
