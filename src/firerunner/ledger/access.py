"""How the ledger's database is opened, read and written; what is read and written is elsewhere."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

import sqlalchemy as sa

from firerunner.clock import SteadyClock
from firerunner.errors import IllegalTransition, LedgerError, NotLeader, StaleWrite
from firerunner.ledger import database, lease, migrate
from firerunner.ledger.keyring import Keyring
from firerunner.ledger.moves import Move, Onlooker
from firerunner.ledger.records import Clock
from firerunner.ledger.telling import Telling
from firerunner.ledger.transaction import Transaction
from firerunner.ledger.writer import FAILURES, Writer, translate

T = TypeVar("T")
SLOW_S = 1.0
"""An answer that took longer does not tell what time it is."""
_SERVER_TIME = sa.text("SELECT extract(epoch FROM clock_timestamp())")
Work = Callable[[Transaction], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Access:
    """The open database, its keys and clock, and the epoch in which is written."""

    engine: database.Engine
    writer: Writer
    keys: Keyring
    clock: Clock
    epoch: int | None = None
    onlookers: list[Onlooker] = field(default_factory=list)
    """The same list for all handles."""

    @classmethod
    async def open(cls, url: str, keys: Keyring, clock: Clock, *, as_it_is: bool = False) -> Access:
        """Raises `LedgerError` if it cannot be opened, was written by a newer version, or `as_it_is`
        by another one."""
        address = database.parse_url(url)
        migrating = database.create_engine(address, foreign_keys=False)
        try:
            async with migrating.execution_options(**{database.WRITES: not as_it_is}).begin() as connection:
                await connection.run_sync(migrate.check if as_it_is else migrate.upgrade)
        except FAILURES as error:
            raise translate(error) from error
        finally:
            await migrating.dispose()
        engine = database.create_engine(address)
        return cls(engine, Writer(engine), keys, clock, onlookers=[Telling()])

    async def aclose(self) -> None:
        await self.writer.aclose()
        await self.engine.dispose()

    def acting_as(self, epoch: int) -> Access:
        return replace(self, epoch=epoch)

    def unfenced(self) -> Access:
        return replace(self, epoch=None)

    async def write(self, work: Work[T]) -> T:
        """One transaction, fenced if there is an epoch, durable when this returns."""

        moves: list[Move] = []

        async def fenced(connection: database.Opened, passed: set[int]) -> T:
            nonlocal moves
            tx = Transaction(connection, self.clock(), self.epoch)
            if tx.epoch is not None and tx.epoch not in passed:  # no leader can change within a transaction
                await lease.fence(tx)
                passed.add(tx.epoch)
            moves = tx.moves  # a second run begins anew
            return await work(tx)

        with self._timing("write"):
            result = await self.writer.run(fenced)
        for move in moves:
            for onlooker in self.onlookers:
                onlooker.moved(move)
        return result

    async def read(self, work: Work[T]) -> T:
        """A consistent look; never waits for a writer on SQLite."""
        with self._timing("read"):
            try:
                async with self.engine.connect() as connection:
                    return await work(Transaction(connection, self.clock()))
            except FAILURES as error:
                raise translate(error) from error

    @contextmanager
    def _timing(self, operation: str) -> Iterator[None]:
        began, failed = time.perf_counter(), False
        try:
            yield
        except (IllegalTransition, NotLeader, StaleWrite):
            raise
        except LedgerError:
            failed = True
            raise
        finally:
            for onlooker in self.onlookers:
                onlooker.took(operation, time.perf_counter() - began, failed=failed)

    async def timed(self, run: Callable[[Work[T]], Awaitable[T]], work: Work[T]) -> T:
        """`run(work)`; on PostgreSQL a `SteadyClock` learns by the way what time it is there."""

        async def timing(tx: Transaction) -> T:
            clock = self.clock
            if isinstance(clock, SteadyClock) and self.engine.dialect.name == "postgresql":
                began = clock()
                there = float((await tx.connection.execute(_SERVER_TIME)).scalar_one())
                took_s = clock() - began
                if took_s < SLOW_S:
                    clock.set(there + took_s / 2)
            return await work(tx)

        return await run(timing)
