"""What the plan wants done. Every action is carried out by one actor of control."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask GitLab for one job, for one machine; ends with `AskEnded`."""

    pool: str
    machine_id: str | None
    """A waiting machine, or a reserved id kept from an ask that found nothing; None: reserve a new id."""
    host: str
    """Where the machine is or will be; a kept id may get another host than last time."""
    number: int = field(default=0, compare=False)
    """Tells one ask of the pool from another. The ask's end repeats it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """Create the machine that is reserved and has a job. Repeated until its state changes."""

    machine_id: str
    pool: str


@dataclass(frozen=True, slots=True)
class Assign:
    """Give a homeless job a machine; ends with a `MachineMoved` that has the job, or `NotDone`."""

    job_id: int
    pool: str
    host: str
    machine_id: str | None = None
    """A waiting machine without a job; None: reserve a new one on `host`."""


@dataclass(frozen=True, slots=True)
class Refill:
    """Reserve and launch a machine without a job; ends with its `MachineMoved`, or `NotDone`."""

    pool: str
    host: str


@dataclass(frozen=True, slots=True)
class Retire:
    """Bring a machine that is not needed to its end. Repeated until its state changes."""

    machine_id: str
    reason: str


Action = Ask | Launch | Assign | Refill | Retire
