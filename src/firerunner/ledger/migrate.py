"""Brings a database's tables to a revision, with the Alembic migrations in this package."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Connection

from firerunner.errors import LedgerError

HEAD: Final = "head"


class Revision(NamedTuple):
    """One state of the tables."""

    name: str
    about: str


_SCRIPTS = Path(__file__).with_name("migrations")


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Forward to `revision`; does nothing if the database is there already.

    Raises `LedgerError` if the database was written by a newer FireRunner.
    """
    config = _config(connection)
    scripts = ScriptDirectory.from_config(config)
    current = current_revision(connection)
    if revision == HEAD and current == scripts.get_current_head():
        return
    try:
        if current is not None:
            scripts.get_revision(current)
        command.upgrade(config, revision)
    except CommandError as error:
        raise LedgerError(
            f"the ledger is at revision {current}, which this version of FireRunner does not know",
            remedy="run the version that wrote it, or a newer one",
        ) from error


def check(connection: Connection) -> None:
    """For who only looks: raises `LedgerError` if the database is not at this version's revision."""
    current, needed = current_revision(connection), revisions()[-1].name
    if current != needed:
        raise LedgerError(
            f"the ledger is at revision {current or 'none'}, this version of FireRunner works with {needed}",
            remedy="Use the version that serves, or start this one's `firerunner serve`, which changes that",
        )


def revisions() -> list[Revision]:
    """All that this version knows, the oldest first."""
    scripts = ScriptDirectory.from_config(_config(None))
    found = [Revision(each.revision, (each.doc or "").strip()) for each in scripts.walk_revisions()]
    return found[::-1]


def downgrade(connection: Connection, revision: str) -> None:
    """Back to `revision`; `base` removes all tables."""
    command.downgrade(_config(connection), revision)


def current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
