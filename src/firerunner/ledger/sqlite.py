"""SQLite on the event loop's own thread, but for what waits for the disk or for another process.

A statement of the ledger takes microseconds; handing it to a thread and back, as aiosqlite does four times
for each, takes ten times that. So statements run where they are asked for, and only those that may wait go to
a thread: `BEGIN IMMEDIATE` while another process writes, and `COMMIT` (for the disk). It has the face that
SQLAlchemy's aiosqlite dialect looks for (sqlalchemy/dialects/sqlite/aiosqlite.py, connectors/asyncio.py).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

BUSY_TIMEOUT_MS = 10_000
"""How long a write waits for another *process* that writes; within one process writes queue up."""

_LOCKS = "BEGIN IMMEDIATE"
_threads = ThreadPoolExecutor(4, thread_name_prefix="ledger")


async def _in_thread(work: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(_threads, work)


class LoopCursor:
    """One statement and its rows."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self.arraysize = cursor.arraysize

    async def __aenter__(self) -> Self:
        return self

    @property
    def description(self) -> Any:
        """As PEP 249 has it."""
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        """As PEP 249 has it."""
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        """As PEP 249 has it."""
        return self._cursor.lastrowid

    async def execute(self, operation: str, parameters: Sequence[Any] = ()) -> Self:
        """Run it: here, or in a thread if it may wait. Raises sqlite3.Error."""
        if operation == _LOCKS:
            await self._lock()
        else:
            self._cursor.execute(operation, parameters)
        return self

    async def _lock(self) -> None:
        """Here if nobody else writes now, else in a thread that waits for them."""
        connection = self._cursor.connection
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            self._cursor.execute(_LOCKS)
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        finally:
            connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        await _in_thread(lambda: self._cursor.execute(_LOCKS))

    async def executemany(self, operation: str, parameters: Sequence[Sequence[Any]]) -> Self:
        """Run it with each of the parameters. Raises sqlite3.Error."""
        self._cursor.executemany(operation, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        """All rows."""
        return self._cursor.fetchall()

    async def close(self) -> None:
        """Let the rows go."""
        self._cursor.close()


class LoopConnection:
    """One connection. Transactions are begun by statements, never by the driver."""

    def __init__(self, path: str) -> None:
        """Opens the file. Raises sqlite3.Error."""
        self._connection: sqlite3.Connection | None = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000
        )

    @property
    def isolation_level(self) -> str | None:
        """None: see above."""
        return None

    def cursor(self) -> LoopCursor:
        """For one statement."""
        return LoopCursor(self._open().cursor())

    async def create_function(self, *args: Any, **kw: Any) -> None:
        """SQLAlchemy adds one for regular expressions."""
        self._open().create_function(*args, **kw)

    async def commit(self) -> None:
        """Returns when it is on the disk. Raises sqlite3.Error."""
        await _in_thread(self._open().commit)

    async def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        self._open().rollback()

    async def close(self) -> None:
        """Also a second time."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """What SQLAlchemy calls when it cannot await a close."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ValueError("connection closed")
        return self._connection
