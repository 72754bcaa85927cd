"""The ledger's calls about its journal, who leads, and what is old."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from firerunner.ledger import (
    journal,
    lease,
    pruning,
    signals,
)
from firerunner.ledger.handle import Handle
from firerunner.ledger.records import (
    JournalEntry,
    Lease,
    Pruned,
)
from firerunner.ledger.transaction import Transaction

PRUNE_BATCH = 500
"""Rows per transaction when pruning, so that other writes get their turn."""


class UpkeepCalls(Handle):
    """What happened, who may write, and how long it is kept."""

    async def note(
        self, subject_kind: str, subject: str, event: str, detail: Mapping[str, Any] | None = None
    ) -> int:
        """Write down something that changed no state. `detail` must be JSON without secrets."""
        return await self._write(lambda tx: journal.write(tx, subject_kind, subject, event, detail=detail))

    async def journal(
        self, after: int = 0, subject: str | None = None, limit: int = 200
    ) -> list[JournalEntry]:
        """Rows with a number above `after`, in order."""
        return await self._read(lambda tx: journal.read(tx, after, subject, limit))

    async def last_journal(self, subject: str | None = None, limit: int = 200) -> list[JournalEntry]:
        """The newest rows, in order."""
        return await self._read(lambda tx: journal.read_last(tx, subject, limit))

    async def last_journal_of(self, subject: str, event: str, limit: int = 1) -> list[JournalEntry]:
        """The newest rows of this event, in order, however many others there are of the subject."""
        return await self._read(lambda tx: journal.read_last_of(tx, subject, event, limit))

    async def intend(
        self,
        action: str,
        subject: str,
        detail: Mapping[str, Any] | None = None,
        *,
        subject_kind: str = "machine",
    ) -> int:
        """Before a side effect outside: its number, for `done`."""
        return await self._write(lambda tx: journal.intend(tx, subject_kind, subject, action, detail or {}))

    async def done(self, seq: int, outcome: str | Mapping[str, Any] = "ok") -> None:
        """After a side effect, however it went. `StaleWrite` if it was done before."""
        told = {"outcome": outcome} if isinstance(outcome, str) else outcome
        await self._write(lambda tx: journal.done(tx, seq, told))

    async def unfinished(self) -> list[JournalEntry]:
        """Side effects that were intended and are not done; `event` names the action."""
        return await self._read(journal.unfinished)

    async def lease(self) -> Lease | None:
        """Who leads now; None before the first leader."""
        return await self._access.timed(self._read, lease.read)

    async def lead(self, holder: str, *, silent: Lease | None = None, force: bool = False) -> int:
        """Become leader, or stay it with one more beat; the epoch. Raises `NotLeader` if another is.

        `holder` names one run of one process. `silent`: a lease whose heart has stood still for so long that
        it may be taken. `force` takes over whatever it says: only for who knows that the holder is dead.
        """
        return await self._access.timed(
            self._write, lambda tx: lease.lead(tx, holder, silent=silent, force=force)
        )

    async def resign(self, holder: str) -> None:
        """Let another lead at once. Does nothing if `holder` does not lead."""
        await self._write(lambda tx: lease.resign(tx, holder))

    async def send_signal(self, kind: str, body: Mapping[str, Any]) -> None:
        """For the leader, from a controller that does not lead. `body` must be JSON without secrets."""
        await self._write(lambda tx: signals.send(tx, kind, body))

    async def receive_signals(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and body of the oldest signals, in order; they are gone then."""
        if not await self._read(signals.waiting):
            return []
        return await self._write(signals.receive)

    async def prune(self, before: float) -> Pruned:
        """Remove journal rows, ended jobs and gone machines from before then, batch by batch."""
        return Pruned(
            jobs=await self._in_batches(pruning.prune_jobs, before),
            machines=await self._in_batches(pruning.prune_machines, before),
            journal=await self._in_batches(pruning.prune_journal, before),
        )

    async def _in_batches(
        self, prune: Callable[[Transaction, float, int], Awaitable[int]], before: float
    ) -> int:
        total, count = 0, PRUNE_BATCH
        while count >= PRUNE_BATCH:
            count = await self._write(lambda tx: prune(tx, before, PRUNE_BATCH))
            total += count
        return total
