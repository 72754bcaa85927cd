"""`firerunner ledger`: at which revision the database is, and the way back for an older version."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Annotated

import typer

from firerunner.app import must_have_ledger
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, out, print_json, print_table
from firerunner.control.lock import only_controller
from firerunner.errors import NotLeader
from firerunner.ledger import migrate, versions
from firerunner.settings import Settings, load_settings

HEART_S = 10.0
"""A controller that leads beats several times in so long."""

app = typer.Typer(name="ledger", help="The database: its revision, and the way back.", no_args_is_help=True)


@app.command("status")
def status(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Say at which revision the database's tables are, and which ones this version knows.

    `firerunner serve` brings them to the newest one that it knows; other commands change nothing.

    Example: firerunner ledger status
    """
    settings = load_settings(config)
    must_have_ledger(settings)
    current = asyncio.run(versions.revision_of(settings.database_url))
    known = migrate.revisions()
    if as_json:
        print_json({"revision": current, "known": [each._asdict() for each in known]})
        return
    rows = [(each.name, "here" if each.name == current else "", each.about) for each in known]
    print_table("revisions", ("revision", "", "what came with it"), rows)
    if current not in {each.name for each in known}:
        out.print(f"The ledger is at {current}, which only a newer version knows.", markup=False)


@app.command("rollback")
def rollback(
    revision: Annotated[str, typer.Argument(help="The one that the older version works with.")],
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Take the tables back to an older revision, so that an older version of FireRunner can be started.

    No service may run on this database. Jobs, machines and journal stay; what only later revisions know is
    lost. It is done as a whole or not at all. Keep a copy of the database and its key file all the same.

    Example: firerunner ledger rollback 0005
    """
    settings = load_settings(config)
    must_have_ledger(settings)
    asyncio.run(_roll_back(settings, revision))
    out.print(f"The ledger is at revision {revision}.", markup=False, highlight=False)


async def _roll_back(settings: Settings, revision: str) -> None:
    url = settings.database_url
    shared = not url.startswith("sqlite")
    with nullcontext() if shared else only_controller(settings.state_dir):
        if shared:
            await _no_heart_beats(url)
        await versions.roll_back(url, revision)


async def _no_heart_beats(url: str) -> None:
    """Raises NotLeader. A leader that was killed stays named in the ledger, and its heart is still."""
    before = await versions.heart_of(url)
    if before is None:
        return
    await asyncio.sleep(HEART_S)
    if await versions.heart_of(url) != before:
        raise NotLeader(f"controller {before[0]} works with this ledger", remedy="Stop all of them first")
