"""Reads the options of `firerunner gitlab`: whose runners, which pool's tags, where the token comes from."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from firerunner.errors import SettingsError
from firerunner.gitlab import ScopeKind
from firerunner.setup.secret_files import read_secret
from firerunner.setup.wishes import ACCESS_LEVELS, EVERY_POOL


def owner_of(
    project: str | None, group: str | None, instance: bool, *, needed: bool
) -> tuple[ScopeKind, str]:
    """Whose runners they are; the instance if none is named and none needed."""
    given: list[tuple[ScopeKind, str]] = []
    if project is not None:
        given.append(("project", project))
    if group is not None:
        given.append(("group", group))
    if instance or not (given or needed):
        given.append(("instance", ""))
    if len(given) != 1:
        raise typer.BadParameter("say one of --project PATH, --group PATH and --instance")
    return given[0]


def default_hook_owner(owner: tuple[ScopeKind, str]) -> list[tuple[ScopeKind, str]]:
    """Where the hook is made if nothing else is said."""
    if owner[0] == "instance":
        raise typer.BadParameter(
            "hooks about jobs belong to projects and groups: --hook-project PATH or --hook-group PATH"
        )
    return [owner]


def optional_token(file: Path | None) -> str | None:
    """From the file or GITLAB_TOKEN; never from the command line, where every user can read it."""
    token = read_secret(file) if file is not None else os.environ.get("GITLAB_TOKEN")
    if file is not None and not token:
        raise SettingsError(f"there is no token in {file}", remedy="Name another file with --token-file")
    return token.strip() if token else None


def token_of(file: Path | None, url: str) -> str:
    """The same, or asked for."""
    token = optional_token(file)
    if token is None and sys.stdin.isatty():
        token = str(typer.prompt(f"Token for {url} (scope api)", hide_input=True, err=True)).strip()
    if not token:
        raise SettingsError(
            f"a token for {url} is needed", remedy="Name a file with --token-file, or set GITLAB_TOKEN"
        )
    return token


def pairs(option: str, values: list[str] | None, default: str | None = None) -> list[tuple[str, str]]:
    """`POOL=VALUE` as its two parts."""
    found = []
    for value in values or ():
        name, equals, rest = value.partition("=")
        if not equals and default is None:
            raise typer.BadParameter(f"{option} takes POOL=…, not {value!r}")
        found.append((name, rest if equals else str(default)))
    return found


def levels(values: list[str] | None) -> Mapping[str, str]:
    """`[POOL=]LEVEL` by pool."""
    found = {}
    for value in values or ():
        name, equals, level = value.rpartition("=")
        if level not in ACCESS_LEVELS:
            raise typer.BadParameter(f"--access-level: {level!r} is none of {', '.join(ACCESS_LEVELS)}")
        found[name if equals else EVERY_POOL] = level
    return found


def words(value: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(word.strip() for word in value.split(",") if word.strip())


def yes_or_no(value: str) -> bool:
    """True for yes."""
    if value not in {"yes", "no"}:
        raise typer.BadParameter(f"--run-untagged: {value!r} is neither yes nor no")
    return value == "yes"
