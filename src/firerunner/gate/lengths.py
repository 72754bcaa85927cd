"""How long each job's log is by now, written down for all jobs at once and only now and then: of many trace
patches one waits for the disk."""

from __future__ import annotations

from firerunner.gate.desk import Desk


class Lengths:
    """What has grown since the last write."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._grown: dict[int, int] = {}
        self._due = desk.clock() + desk.limits.trace_save_s

    def note(self, job_id: int, count: int) -> None:
        """The job has a log of `count` bytes."""
        self._grown[job_id] = count

    async def write_when_due(self) -> None:
        """Raises LedgerError; what is noted later makes good for that."""
        now = self._desk.clock()
        if now < self._due or not self._grown:
            return
        self._due = now + self._desk.limits.trace_save_s
        grown, self._grown = self._grown, {}
        await self._desk.ledger.set_trace_bytes(grown)

    def take(self, job_id: int) -> dict[int, int]:
        """What is not written down yet of a job that ends: its own entry, or nothing."""
        return {job_id: self._grown.pop(job_id)} if job_id in self._grown else {}
