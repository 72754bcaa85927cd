"""Watches from outside how large a hostile job gets: console, disks, ledger, log, journal."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from firerunner.demo.stage import Stage
from tests.hostile.leaks import MIB, console_bytes, disk_bytes, networks_of, state_bytes

POLL_S = 0.5
JOURNAL_ROWS_PER_MACHINE = 60

LIMITS = {
    "console_bytes": 2 * MIB,
    "disk_bytes": 8 * 1024 * MIB,
    "state_bytes": 32 * MIB,
    "log_bytes": 2 * MIB,
    "journal_rows_of_one": JOURNAL_ROWS_PER_MACHINE,
}
"""A machine keeps at most 1 MiB of its console, and a disk is 1 GiB for each of at most eight machines."""


@dataclass(slots=True)
class Watcher:
    """The largest of everything so far."""

    stage: Stage
    most: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LIMITS, 0))
    starts: Counter[str] = field(default_factory=Counter)
    """How machines came to run."""
    networks: set[str] = field(default_factory=set)
    """In which machines have lived."""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(POLL_S)

    def look(self) -> None:
        """Once."""
        state = self.stage.settings.state_dir
        self._note("console_bytes", console_bytes(state))
        self._note("disk_bytes", disk_bytes(state))
        self._note("state_bytes", state_bytes(state))
        self._note("log_bytes", (self.stage.directory / "service.log").stat().st_size)
        self.networks |= networks_of(self.stage.directory)

    async def read_journal(self) -> None:
        """How many rows there are about one machine or job, and how machines were started."""
        after, rows = 0, dict[str, int]()
        while read := await self.stage.ledger.journal(after, limit=500):
            after = read[-1].seq
            for row in read:
                if str(outcome := row.detail.get("outcome", "")).startswith("created "):
                    self.starts[str(outcome).removeprefix("created ")] += 1
                if row.subject_kind in {"machine", "job"}:
                    rows[row.subject] = rows.get(row.subject, 0) + 1
        self._note("journal_rows_of_one", max(rows.values(), default=0))

    def unbounded(self) -> list[str]:
        """What has grown over its limit."""
        return [f"{name} {size}" for name, size in self.most.items() if size > LIMITS[name]]

    def _note(self, name: str, size: int) -> None:
        self.most[name] = max(self.most[name], size)
