"""What stands behind the fake's microVMs: the protocol, and one that boots nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from firerunner.fakes.flintlock.records import Record


class VmmError(Exception):
    """The VMM did not start."""


class Vmm(Protocol):
    """Starts and ends the processes of microVMs. They outlive the daemon."""

    async def start(self, record: Record) -> None:
        """Return once the process runs. Raises VmmError. The disk of an earlier start is still there."""
        ...

    async def alive(self, record: Record) -> bool:
        """Whether the process runs."""
        ...

    async def remove(self, record: Record) -> None:
        """End the process and remove its disk. Nothing there is a success."""
        ...


@dataclass(slots=True)
class PaperVmm:
    """Boots nothing; a test ends machines by `ended`, and reads how often each was started."""

    starts: dict[str, int] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)
    broken: str = ""
    """If set, no VMM starts, for this reason."""

    async def start(self, record: Record) -> None:
        """Count it."""
        if self.broken:
            raise VmmError(self.broken)
        self.starts[record.uid] = self.starts.get(record.uid, 0) + 1
        self.running.add(record.uid)

    async def alive(self, record: Record) -> bool:
        """Until `ended`."""
        return record.uid in self.running

    async def remove(self, record: Record) -> None:
        """Forget it."""
        self.running.discard(record.uid)

    def ended(self, uid: str) -> None:
        """The guest has rebooted, so that Firecracker has ended."""
        self.running.discard(uid)
