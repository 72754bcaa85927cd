"""Runs writes one after the other, and those that wait together in one commit.

A commit costs a disk flush whatever is in it. While one is under way, further writes gather; they
then share the next. If one of them is refused, nothing has been written and each is run again alone,
so that a refusal undoes nothing of the others. A write that has begun is finished even when its
caller is cancelled: there is no half-done state to find out about.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import asyncpg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from firerunner.errors import FireRunnerError, LedgerError
from firerunner.ledger.database import WRITES, Engine, Opened

T = TypeVar("T")

MAX_BATCH = 64
"""Writes per commit: bounds how long the first of them waits."""

GATHER_S = 0.003
"""How long more of them are waited for where writes have come together just before."""

CROWD, CROWDED_S = 4, 0.05
"""So many writes in one commit are a crowd, and more are taken to follow for so long. Fewer come together
when a single job is handed over, and that waits for nobody."""

FAILURES = (
    SQLAlchemyError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)
"""How a database fails: SQLAlchemy wraps what comes while a statement runs, not what comes before."""

_REFUSALS = (FireRunnerError, IntegrityError, DataError)
"""What is wrong with one write and says nothing about the others."""

Work = Callable[[Opened, set[int]], Awaitable[T]]
"""Gets the transaction's connection, and the epochs that have passed the fence in it."""


@dataclass(slots=True, eq=False)
class _Write:
    work: Work[Any]
    future: asyncio.Future[Any]


class Writer:
    """The only way to write. Belongs to the event loop in which it is used."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(**{WRITES: True})
        self._queue: deque[_Write] = deque()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._crowded_until = 0.0

    async def run(self, work: Work[T]) -> T:
        """Run `work` in a transaction and return its result once that is committed.

        `work` touches nothing but what it is given: it may be run a second time if a batch fails.
        Raises what `work` raises, then nothing of it is written; `LedgerError` if the database fails.
        """
        if self._closed:
            raise LedgerError("the ledger is closed")
        write = _Write(work, asyncio.get_running_loop().create_future())
        self._queue.append(write)
        if self._task is None:
            self._task = asyncio.create_task(self._drain(), name="ledger-writer")
        return cast(T, await write.future)

    async def aclose(self) -> None:
        """Finish what has been asked for, take nothing more."""
        self._closed = True
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _drain(self) -> None:
        clock = asyncio.get_running_loop().time
        try:
            while self._queue:
                is_crowded = clock() < self._crowded_until and len(self._queue) < MAX_BATCH
                await asyncio.sleep(GATHER_S if is_crowded else 0)
                batch = [self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))]
                batch = [write for write in batch if not write.future.done()]  # cancelled before it began
                if len(batch) == 1 or not await self._together(batch):
                    for write in batch:
                        await self._alone(write)
                self._crowded_until = clock() + CROWDED_S if len(batch) >= CROWD else 0.0
        finally:
            self._task = None
            if self._queue and not self._closed:  # only when the event loop is being torn down
                for write in self._queue:
                    write.future.cancel()

    async def _alone(self, write: _Write) -> None:
        try:
            async with self._engine.begin() as connection:
                result = await write.work(connection, set())
        except Exception as error:
            _settle(write, error=translate(error))
        else:
            _settle(write, result=result)

    async def _together(self, batch: list[_Write]) -> bool:
        """Commit all of them at once; False, with nothing written, if one of them was refused."""
        try:
            async with self._engine.connect() as connection:
                try:
                    fenced: set[int] = set()
                    results = [await write.work(connection, fenced) for write in batch]
                except _REFUSALS:  # each one finds out for itself, alone
                    return False
                await connection.commit()
        except Exception as error:  # a failed commit may have been made: it is not tried again
            for write in batch:
                _settle(write, error=translate(error))
        else:
            for write, result in zip(batch, results, strict=True):
                _settle(write, result=result)
        return True


def _settle(write: _Write, *, result: Any = None, error: Exception | None = None) -> None:
    if write.future.done():  # its caller was cancelled meanwhile; the write stands
        return
    if error is None:
        write.future.set_result(result)
    else:
        write.future.set_exception(error)


def translate(error: Exception) -> Exception:
    """The database's error as ours, without statement and parameters."""
    if not isinstance(error, FAILURES):
        return error
    said = error.orig if isinstance(error, DBAPIError) else error
    ours = LedgerError(
        f"the ledger's database failed: {str(said) or type(said).__name__}",
        remedy="check its disk, its permissions, its server",
    )
    ours.__cause__ = error
    return ours
