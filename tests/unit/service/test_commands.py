"""The command line as a user meets it: help with an example, clear errors, exit statuses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from firerunner.app import open_ledger
from firerunner.cli.main import app
from firerunner.settings import load_settings


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "firerunner", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "TERM": "dumb"},
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    pool = {"name": "small", "runner_token": "glrt-canary", "image": "demo"}
    path.write_text(
        yaml.safe_dump(
            {"gitlab": {"url": "http://127.0.0.1:9"}, "pools": [pool], "state_dir": str(tmp_path / "state")}
        )
    )
    (tmp_path / "state").mkdir()
    return path


async def make_ledger(config: Path) -> None:
    async with open_ledger(load_settings(config)):
        pass


def commands(path: str, command: Any) -> Iterator[tuple[str, str]]:
    """Each command with what its help says."""
    below = getattr(command, "commands", None)
    if below is None:
        yield path, " ".join((command.help or "").split())
    for name, each in (below or {}).items():
        yield from commands(f"{path} {name}", each)


def test_every_command_has_help_with_an_example() -> None:
    told = dict(commands("firerunner", typer.main.get_command(app)))

    assert len(told) > 20
    assert [path for path, help_text in told.items() if f"Example: {path}" not in help_text] == []
    shown = run("support-bundle", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Example: firerunner support-bundle" in shown.stdout


def test_a_typo_in_the_configuration_is_named_and_exits_with_2(config: Path) -> None:
    config.write_text(config.read_text().replace("image:", "imgae:"))

    shown = run("config", "check", "--config", str(config))

    assert shown.returncode == 2
    assert "pools[0].imgae: unknown key; did you mean `image`?" in shown.stderr


def test_a_pool_of_which_no_machine_could_be_made_is_named(config: Path) -> None:
    ran = run("config", "check", "--config", str(config))

    assert ran.returncode == 2
    said = " ".join(ran.stderr.split())
    assert "pool small: no machine can be made: egress 127.0.0.1 is an address that means" in said
    assert "with connect_to" in said


def test_the_settings_in_force_are_shown_without_secrets(config: Path) -> None:
    shown = run("config", "show", "--json", "--config", str(config))

    assert json.loads(shown.stdout)["pools"][0]["check_interval"] == 3.0
    assert "glrt-canary" not in shown.stdout + shown.stderr


@pytest.mark.parametrize("command", ["jobs", "machines"])
def test_a_ledger_that_is_not_there_is_not_made_by_a_look(config: Path, command: str) -> None:
    shown = run(command, "--json", "--all", "--config", str(config))

    assert shown.returncode == 1
    assert "there is no ledger at" in shown.stderr
    assert list((config.parent / "state").iterdir()) == []


@pytest.mark.parametrize("command", ["jobs", "machines"])
def test_an_empty_ledger_lists_nothing(config: Path, command: str) -> None:
    asyncio.run(make_ledger(config))

    shown = run(command, "--json", "--all", "--config", str(config))

    assert json.loads(shown.stdout) == []


def test_a_machine_that_nobody_knows_is_named_with_the_remedy(config: Path) -> None:
    asyncio.run(make_ledger(config))

    shown = run("logs", "fr-000000000000", "--config", str(config))

    assert shown.returncode == 1
    assert "there is no machine fr-000000000000. See `firerunner machines --all`" in shown.stderr


def test_images_of_an_empty_store(tmp_path: Path) -> None:
    assert "No images." in run("image", "list", "--store", str(tmp_path)).stdout
    missing = run("image", "inspect", "demo", "--store", str(tmp_path))
    assert missing.returncode == 1
    assert "firerunner image build" in missing.stderr
