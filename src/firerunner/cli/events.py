"""`firerunner events`: the journal, as it is and as it goes on."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated

import typer

from firerunner.app import existing_ledger
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, JsonLines, out, print_json_line
from firerunner.cli.wording import moment
from firerunner.ledger import JournalEntry
from firerunner.settings import Settings, load_settings

Read = Callable[[int, str | None, int], Awaitable[list[JournalEntry]]]
"""Rows above that number, of that subject, at most so many."""

LOOK_EVERY_S = 0.5
LATE = 200
"""A row may become visible after one of a higher number, if two controllers write at once to PostgreSQL. So
the last rows are looked at again."""


def events(
    subject: Annotated[
        str | None, typer.Argument(help="Only rows about it: a job, a machine, a host, a pool.")
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    last: Annotated[int, typer.Option("--last", "-n", min=0, help="Begin with so many of the newest.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")
    ] = False,
    as_json: JsonLines = False,
) -> None:
    """Print the journal: each change of state and each side effect, oldest first.

    With --json each row is an object with `seq`, `at` (Unix seconds), `subject_kind`, `subject`, `event`,
    `from_state`, `to_state`, `detail` and `epoch`, as in the API.

    Example: firerunner events fr-0123456789ab

    Example: firerunner events --follow --last 0 --json
    """
    asyncio.run(_print(load_settings(config), subject, last, follow=follow, as_json=as_json))


async def _print(settings: Settings, subject: str | None, last: int, *, follow: bool, as_json: bool) -> None:
    async with existing_ledger(settings) as ledger:
        newest = await ledger.last_journal(subject, max(last, 1))
        shown = newest if last else []
        for entry in shown:
            _show(entry, as_json=as_json)
        if follow:
            async for entry in following(ledger.journal, newest[-1].seq if newest else 0, subject):
                _show(entry, as_json=as_json)


async def following(journal: Read, after: int, subject: str | None) -> AsyncIterator[JournalEntry]:
    """The rows that come after that number, for ever."""
    floor, seen = after, deque[int](maxlen=2 * LATE)
    while True:
        fresh = [entry for entry in await journal(floor, subject, 1000) if entry.seq not in seen]
        for entry in fresh:
            seen.append(entry.seq)
            yield entry
        if not fresh:
            await asyncio.sleep(LOOK_EVERY_S)
        elif len(seen) > LATE:
            floor = max(floor, sorted(seen)[-LATE])


def _show(entry: JournalEntry, *, as_json: bool) -> None:
    if as_json:
        print_json_line(dataclasses.asdict(entry))
    else:
        out.print(readable(entry), markup=False, highlight=False, soft_wrap=True)


def readable(entry: JournalEntry) -> str:
    """One line for people."""
    states = f" {entry.from_state or ''}→{entry.to_state}" if entry.to_state else ""
    detail = " ".join(f"{key}={_plain(value)}" for key, value in entry.detail.items())
    return f"{moment(entry.at)} {entry.subject_kind} {entry.subject} {entry.event}{states} {detail}".rstrip()


def _plain(value: object) -> str:
    """As it is, if that is one word; else quoted, so that nothing in it can look like a row of its own."""
    word = str(value)
    return word if isinstance(value, str) and word.isprintable() and " " not in word else json.dumps(value)
