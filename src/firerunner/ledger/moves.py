"""What a committed write has changed, for whoever counts and times it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from firerunner.ledger.records import JobRecord, MachineRecord
from firerunner.ledger.states import JobState, MachineState


@dataclass(frozen=True, slots=True)
class MachineMove:
    """A machine has come into a state; `was` is None for a new one."""

    machine: MachineRecord
    was: MachineState | None = None
    stayed_s: float = 0.0
    """How long it was in `was`."""


@dataclass(frozen=True, slots=True)
class JobMove:
    """A job has come into a state; `was` is None for a new one."""

    job: JobRecord
    was: JobState | None = None
    stayed_s: float = 0.0
    machine: MachineRecord | None = None
    """Of a job that is taken, assigned or running: its machine just before. Else None."""


Move = MachineMove | JobMove


class Onlooker(Protocol):
    """Told after the commit, in the process that wrote. Must not block or raise."""

    def moved(self, move: Move) -> None: ...

    def took(self, operation: str, seconds: float, *, failed: bool) -> None:
        """A `read` or a `write` is over; `failed` by the database's fault."""
