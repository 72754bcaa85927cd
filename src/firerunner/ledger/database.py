"""Opens the database: SQLite as careful as it can be, PostgreSQL as it comes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from firerunner.errors import LedgerError
from firerunner.ledger.sqlite import LoopConnection, LoopEngine

Engine = AsyncEngine | LoopEngine
Opened = AsyncConnection | LoopConnection

WRITES = "firerunner_writes"
"""Execution option of the connection that writes: its transactions lock the database at their start."""

_POSTGRESQL: dict[str, Any] = {
    "timeout": 10.0,
    "command_timeout": 20.0,
    "server_settings": {
        "application_name": "firerunner",
        # A controller that stands still in the middle of a write must not hold the lease's row: its
        # connection is closed, and another may lead.
        "idle_in_transaction_session_timeout": "4s",
        "statement_timeout": "20s",
        "lock_timeout": "10s",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    },
}
"""asyncpg's arguments: seconds for a connection and for a statement; PostgreSQL's settings of a session."""

_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+asyncpg"}


def parse_url(url: str) -> URL:
    """The database's address with its async driver. Raises `LedgerError` if it is not one of ours."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # without its words: a password may stand in them
        raise LedgerError(
            "the database's URL cannot be read",
            remedy="write it like sqlite:////var/lib/firerunner/ledger.db or "
            "postgresql://user:password@host/name, in the password %40 for @, %2F for / and %3A for :",
        ) from None
    parsed = parsed.set(drivername=_DRIVERS.get(parsed.drivername, parsed.drivername))
    if parsed.drivername not in _DRIVERS.values():
        raise LedgerError(
            f"the ledger cannot be kept in {parsed.get_backend_name()}", remedy="use sqlite or postgresql"
        )
    if parsed.get_backend_name() == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise LedgerError("the ledger needs a file, not a database in memory", remedy="name a path")
    return parsed


def create_engine(url: URL, *, foreign_keys: bool = True) -> Engine:
    """An engine whose connections obey the ledger's rules.

    `foreign_keys=False` is for migrations, which on SQLite copy and drop whole tables.
    """
    # Parameters are hidden in errors and logs: some of them are secrets, if encrypted ones.
    if url.get_backend_name() != "sqlite":
        return create_async_engine(
            url, hide_parameters=True, pool_size=10, max_overflow=20, connect_args=_POSTGRESQL
        )
    path = Path(str(url.database))
    _create_file(path)
    return LoopEngine.of_file(path, foreign_keys=foreign_keys)


def _create_file(path: Path) -> None:
    # SQLite gives -wal and -shm the mode of the database file. One that is there is not opened: a process
    # that closes it loses the locks of its other connections (fcntl(2)), and reads a log that is thrown away.
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        elif not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise LedgerError(
            f"the ledger's file {path} cannot be opened: {error.strerror}",
            remedy="check the directory's owner and mode",
        ) from error
