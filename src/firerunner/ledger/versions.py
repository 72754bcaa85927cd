"""At which revision a database is, and the way back to an older one, for the version of FireRunner before."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from firerunner.errors import LedgerError
from firerunner.ledger import database, migrate
from firerunner.ledger.access import T
from firerunner.ledger.schema import leases
from firerunner.ledger.writer import FAILURES, translate


async def revision_of(url: str) -> str | None:
    """The database's; None if it has no tables yet. Raises `LedgerError`."""
    return await _with(url, migrate.current_revision)


async def heart_of(url: str) -> tuple[str, int] | None:
    """Who leads there and how often its heart has beaten; None if nobody does. Raises `LedgerError`."""

    def read(connection: Connection) -> tuple[str, int] | None:
        row = connection.execute(sa.select(leases.c.holder, leases.c.beats)).first()
        return (row.holder, row.beats) if row and row.holder else None

    return await _with(url, read)


async def roll_back(url: str, revision: str) -> None:
    """Take the tables back to that revision, all in one transaction. Raises `LedgerError`.

    What only later revisions know is lost. Nobody else may have the database open.
    """

    def back(connection: Connection) -> None:
        known = [each.name for each in migrate.revisions()]
        current = migrate.current_revision(connection)
        if current not in known:
            raise LedgerError(
                f"the ledger is at revision {current}, which this version of FireRunner does not know",
                remedy="Roll back with the version that wrote it",
            )
        older = known[: known.index(current)]
        if revision not in older:
            raise LedgerError(
                f"there is no way back from revision {current} to {revision}",
                remedy=f"The older ones are: {', '.join(older)}",
            )
        migrate.downgrade(connection, revision)

    await _with(url, back)


async def _with(url: str, work: Callable[[Connection], T]) -> T:
    engine = database.create_engine(database.parse_url(url), foreign_keys=False)
    try:
        async with engine.execution_options(**{database.WRITES: True}).begin() as connection:
            return await connection.run_sync(work)
    except FAILURES as error:
        raise translate(error) from error
    finally:
        await engine.dispose()
