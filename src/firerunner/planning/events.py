"""What happened, as told to the plan. Events are also its only clock: `at` is Unix seconds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning.actions import Action
from firerunner.planning.facts import HostFacts, PoolFacts


class AskOutcome(StrEnum):
    """What became of an ask."""

    JOB = "job"  # GitLab gave a job: ask again at once, and for more at a time
    NOTHING = "nothing"  # GitLab had none: ask after the check interval, or when woken
    REFUSED = "refused"  # GitLab refused the runner token: not before `retry_at`
    TROUBLE = "trouble"  # GitLab or the ledger could not be reached: not before `retry_at`
    RACED = "raced"  # two asks were about one job: not before `retry_at`, and one at a time


@dataclass(frozen=True, slots=True)
class PoolWoken:
    """There may be a job for the pool. Wakes during asks lead to one more ask after the last of them."""

    pool: str
    at: float


@dataclass(frozen=True, slots=True)
class AskEnded:
    """An ask of the pool is over. Told after the `MachineMoved` of its machine."""

    pool: str
    number: int
    """As in `Ask`."""
    machine_id: str | None
    """None if the ask ended before there was an id."""
    outcome: AskOutcome
    at: float
    retry_at: float | None = None
    """Counts for `REFUSED`, `TROUBLE` and `RACED` only."""
    reason: str = ""
    runner: str = ""
    """With whose token it was asked, as in `PoolFacts`; what an old one was told does not hold for a new one.
    Empty: not known."""


@dataclass(frozen=True, slots=True)
class MachineMoved:
    """Where a machine is now, in full. Told as soon as it holds room, and of each one at the start."""

    machine_id: str
    pool: str
    host: str
    resources: Resources
    state: MachineState
    has_job: bool
    room_held: bool
    at: float
    job_id: int | None = None
    """Which job. Without it a homeless job's new machine is told apart by its host and the order only."""
    since: float | None = None
    """Since when it is in this state (Unix seconds); one of which it is not known does not age."""
    image: str = ""
    """The digest of its image."""
    baked: str | None = None
    """What its guest was given at its boot, as in `PoolFacts`; None: nobody knows any more."""


@dataclass(frozen=True, slots=True)
class MachineRemoved:
    """Nothing of the machine is left, or its reservation was forgotten."""

    machine_id: str
    at: float


@dataclass(frozen=True, slots=True)
class HostChanged:
    """A host is new, or has another capacity or usability."""

    host: HostFacts
    at: float
    until: float | None = None
    """An unusable host counts as usable again from then on; None: until told so."""


@dataclass(frozen=True, slots=True)
class PoolChanged:
    """A pool is new, or its declaration or image has changed."""

    pool: PoolFacts
    at: float


@dataclass(frozen=True, slots=True)
class PoolLimited:
    """GitLab has asked, before this start, not to be asked for the pool before `until` (Unix seconds)."""

    pool: str
    until: float
    at: float


@dataclass(frozen=True, slots=True)
class JobHomeless:
    """The job's machine died before delivery. May be told again while the job waits."""

    job_id: int
    pool: str
    at: float


@dataclass(frozen=True, slots=True)
class JobOver:
    """The job has ended or was given back: it needs no machine any more."""

    job_id: int
    pool: str
    at: float


@dataclass(frozen=True, slots=True)
class NotDone:
    """An action of the plan was dropped or failed, and nothing of it is left: plan it again later."""

    action: Action
    at: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes. The first one says that everything known at the start has been told."""

    at: float


Event = (
    PoolWoken
    | AskEnded
    | MachineMoved
    | MachineRemoved
    | HostChanged
    | PoolChanged
    | PoolLimited
    | JobHomeless
    | JobOver
    | NotDone
    | Tick
)
