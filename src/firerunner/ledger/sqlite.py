"""SQLite on the event loop's own thread, but for what waits for the disk or for another process.

A statement of the ledger takes microseconds; handing it to a thread and back takes ten times that, and what
SQLAlchemy's asyncio extension does to call what never waits takes several times that. So statements are run
where they are asked for; `COMMIT` goes to a thread (it waits for the disk), and who finds another process
writing tries again a little later. `LoopEngine` and `LoopConnection` have what the ledger uses of
`AsyncEngine` and `AsyncConnection`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection, CursorResult, Dialect
from sqlalchemy.pool import QueuePool

T = TypeVar("T")

BUSY_TIMEOUT_MS = 10_000
"""How long a write waits for another *process* that writes; within one process writes queue up."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.05
_threads = ThreadPoolExecutor(4, thread_name_prefix="ledger")


class LoopConnection:
    """One connection in a transaction, lent by a `LoopEngine`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, statement: sa.Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run it here. Raises SQLAlchemyError."""
        return self._connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str) -> CursorResult[Any]:
        """Run it as it is. Raises SQLAlchemyError."""
        return self._connection.exec_driver_sql(statement)

    async def run_sync(self, work: Callable[[Connection], T]) -> T:
        """What `work` makes of the connection."""
        return work(self._connection)

    async def commit(self) -> None:
        """Returns when it is on the disk. Raises SQLAlchemyError."""
        over = threading.Event()

        def commit() -> None:
            try:
                self._connection.commit()
            finally:
                over.set()

        try:
            await asyncio.shield(asyncio.get_running_loop().run_in_executor(_threads, commit))
        except asyncio.CancelledError:
            over.wait()  # nobody may use the connection before
            raise


class LoopEngine:
    """The connections to one file. Transactions are begun by statements, never by Python's driver."""

    def __init__(self, sync_engine: sa.Engine, *, writes: bool = False) -> None:
        """`writes`: transactions lock the database at their start."""
        self.sync_engine = sync_engine
        self._writes = writes

    @classmethod
    def of_file(cls, path: Path, *, foreign_keys: bool) -> Self:
        """Opens nothing yet."""

        def connect() -> sqlite3.Connection:
            return _connected(path, foreign_keys=foreign_keys)

        # Unbounded: who waited here for a connection would keep the loop from giving one back.
        options: dict[str, Any] = {"poolclass": QueuePool, "max_overflow": -1, "hide_parameters": True}
        return cls(sa.create_engine("sqlite+pysqlite://", creator=connect, **options))

    @property
    def dialect(self) -> Dialect:
        """As of every engine."""
        return self.sync_engine.dialect

    def execution_options(self, *, firerunner_writes: bool) -> LoopEngine:
        """The same one, to write or to read with."""
        return LoopEngine(self.sync_engine, writes=firerunner_writes)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LoopConnection]:
        """A transaction that is rolled back at the end, unless it was committed."""
        with self.sync_engine.connect() as connection:
            sqlite = cast(sqlite3.Connection, connection.connection.dbapi_connection)
            try:
                if self._writes:
                    await _lock(sqlite)
                else:
                    sqlite.execute("BEGIN")
                connection.begin()
                yield LoopConnection(connection)
            finally:
                if sqlite.in_transaction:  # SQLAlchemy takes one whose commit has failed for ended
                    sqlite.rollback()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[LoopConnection]:
        """A transaction that is committed at the end, unless the block raises."""
        async with self.connect() as connection:
            yield connection
            await connection.commit()

    async def dispose(self) -> None:
        """Close all connections that are not lent."""
        self.sync_engine.dispose()


async def _lock(sqlite: sqlite3.Connection) -> None:
    """Begin to write. A reader that became a writer in mid-transaction would fail at once if another had
    written since. Raises sqlite3.OperationalError if another process writes for too long."""
    clock = asyncio.get_running_loop().time
    until, pause_s = clock() + BUSY_TIMEOUT_MS / 1000, FIRST_PAUSE_S
    while not _is_locked_at_once(sqlite, may_fail=clock() > until):
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _is_locked_at_once(sqlite: sqlite3.Connection, *, may_fail: bool) -> bool:
    sqlite.execute("PRAGMA busy_timeout = 0")
    try:
        sqlite.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if may_fail or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    else:
        return True
    finally:
        sqlite.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _connected(path: Path, *, foreign_keys: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000
    )
    connection.execute("PRAGMA journal_mode = WAL")
    # FULL: what a commit has said is on the disk. GitLab's answer depends on it.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
    connection.execute("PRAGMA secure_delete = ON")
    return connection
