"""The pages say what the program takes: every piece of configuration and every command in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from firerunner.cli.main import app
from firerunner.settings import Settings, load_settings

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(r"```(?P<kind>\w+)[^\n]*\n(?P<text>.*?)```", re.DOTALL)
COMMAND = re.compile(r"^[$#] (?:\w+=\S+ )*(?P<command>firerunner [^|>#\n]*(?:\\\n[^|>#\n]*)*)", re.MULTILINE)

POOL = {"name": "x", "image": "default", "runner_token": "glrt-x"}
BASE = {"gitlab": {"url": "https://gitlab.example.com"}, "pools": [POOL]}


def blocks(*kinds: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, block in enumerate(BLOCK.finditer(page.read_text())):
            if block["kind"] in kinds:
                yield f"{page.name}-{number}", block["text"]


def configurations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Blocks with sections of ours; others are GitLab's, nginx's or Traefik's."""
    for name, text in blocks("yaml"):
        said = yaml.safe_load(text)
        if isinstance(said, dict) and set(said) & set(Settings.model_fields) and "script" not in text:
            yield name, said


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


def commands() -> Iterator[str]:
    for _, text in blocks("console"):
        for found in COMMAND.finditer(text):
            for command in found["command"].replace("\\\n", " ").split(";"):
                yield " ".join(command.split())


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_what_a_page_tells_to_run_is_understood(command: str) -> None:
    current: Any = typer.main.get_command(app)
    words = command.split()[1:]
    while words and words[0][0] != "-" and (below := getattr(current, "commands", None)):
        assert words[0] in below, f"no {words[0]!r}; known: {sorted(below)}"
        current = below[words.pop(0)]
    known = {
        option for parameter in current.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    options = {word.partition("=")[0] for word in words if word.startswith("-")}

    assert options - known - {"--help"} == set()


def test_there_is_something_to_hold_the_pages_to() -> None:
    assert len(list(configurations())) > 8
    assert len(set(commands())) > 15
