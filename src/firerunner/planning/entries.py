"""What the fleet remembers of one pool, host, machine, ask and action under way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning.facts import HostFacts, PoolFacts
from firerunner.planning.warm import Experience

NOTHING = Resources(0, 0, 0)
NEVER = float("-inf")

FAILURES_BEFORE_PAUSE = 3
"""A pool whose machines do not boot would swallow every job of its tags: it must slow down."""
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
FIRST_SHUN_S = 20.0


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as last told."""

    machine_id: str
    pool: str
    host: str
    resources: Resources
    state: MachineState
    has_job: bool
    room_held: bool
    job_id: int | None = None
    since: float | None = None
    image: str = ""
    baked: str | None = None

    def is_outdated(self, facts: PoolFacts) -> bool:
        """True if a machine that the pool made now would be another one."""
        return self.image != facts.image or self.baked not in {None, facts.baked}


class Purpose(StrEnum):
    """What an action under way is for."""

    ASK = "ask"  # an ask in flight; over with AskEnded
    LANDING = "landing"  # an ask that found a job, until its machine is told to have it
    JOB = "job"  # a homeless job; over when a machine has it
    REFILL = "refill"  # a warm machine; over when it is seen beyond `reserved`


@dataclass(frozen=True, slots=True)
class Claim:
    """An action under way, and the room that it has been promised and not yet taken."""

    purpose: Purpose
    host: str
    room: Resources | None
    """None once a machine holds the room itself."""
    since: float
    job_id: int | None = None
    machine_id: str | None = None
    """The machine it is about, as soon as that is known."""


class Chore(StrEnum):
    """What is to be done with one machine, and said again until its state changes."""

    LAUNCH = "launch"
    RETIRE = "retire"


@dataclass(frozen=True, slots=True)
class Todo:
    """A chore and when it is said (again)."""

    chore: Chore
    due: float
    reason: str = ""


@dataclass(slots=True)
class Host:
    """A host: what it has, and what machines and claims hold of it."""

    name: str
    facts: HostFacts | None = None
    unusable_until: float | None = None
    used: Resources = NOTHING
    failures: int = 0
    """Machines in a row that ended there before they had booted."""
    shunned_until: float = NEVER
    """Other hosts come first until then, because of those failures."""

    def is_usable(self, now: float) -> bool:
        if self.facts is None:
            return False
        return self.facts.usable or (self.unusable_until is not None and now >= self.unusable_until)

    def note_failure(self, now: float) -> None:
        """A machine ended there before it had booted: an empty host that fails would draw all jobs to it."""
        self.failures += 1
        self.shunned_until = now + min(FIRST_SHUN_S * 2 ** min(self.failures - 1, 10), LONGEST_PAUSE_S)

    @property
    def free(self) -> Resources:
        return self.facts.capacity - self.used if self.facts else NOTHING


@dataclass(slots=True)
class Pool:
    """A pool: its declaration, its memory of asks, and indexes of its machines."""

    name: str
    facts: PoolFacts | None = None
    """None while only machines of it are known: it is not configured."""

    asked: int = 0
    """How many asks there have been: numbers them."""
    woken: bool = False
    """Somebody has said that there may be a job, and no ask has begun since."""
    streak: int = 0
    """So many answers in a row, up to the last one, brought a job: there may be more."""
    last_ask_at: float = NEVER
    last_answer_at: float = NEVER
    retry_at: float = NEVER
    retry_reason: str = ""
    failures: int = 0
    """Machines in a row that ended before they had booted."""
    failed_until: float = NEVER
    """No ask and no refill before then, because of those failures."""

    refill_at: float = NEVER
    """No refill before then: the last one was not carried out, or its machine had to give way."""
    refill_why: str = ""
    wished: int = 0
    """So many warm machines, as of the last tick."""
    wish_fell_at: float = NEVER
    experience: Experience = field(default_factory=Experience)
    begun: dict[str, float] = field(default_factory=dict)
    """Machines that are being made or boot, and since when they have been seen."""
    stale: tuple[str, ...] = ()
    """Waiting machines that are to be replaced or retired for their age, as of the last look."""
    expired: frozenset[str] = frozenset()
    """Those of them that have waited their time: they are not asked for again."""
    look_at: float = NEVER
    """Not before then are waiting machines looked at for their age again."""
    making_room: str | None = None
    """A warm machine that is retired so that this pool can ask."""
    search_at: float = NEVER
    """Not before then is one looked for again."""
    refills: int = 0
    """How many refills there have been: names their claims."""

    claims: dict[str, Claim] = field(default_factory=dict)
    homeless: dict[int, float] = field(default_factory=dict)
    """Jobs without a machine, oldest first, and since when."""

    held: int = 0
    """Machines that hold room."""
    waiting: dict[str, None] = field(default_factory=dict)
    """Booted, without a job, not to be retired."""
    coming: dict[str, None] = field(default_factory=dict)
    """Creating or booting, without a job."""
    reserved: dict[str, None] = field(default_factory=dict)
    """Reserved, without a job: being asked for, kept for the next ask, or on the way to a job."""

    def wait(self, until: float, reason: str) -> None:
        """No ask before then. One that was begun earlier and ends later does not shorten it."""
        if until > self.retry_at:
            self.retry_at, self.retry_reason = until, reason

    @property
    def asks(self) -> int:
        """How many are in flight."""
        return sum(claim.purpose is Purpose.ASK for claim in self.claims.values())

    def note_failure(self, now: float) -> None:
        """One more machine ended before it had booted; from the third in a row on, the pool pauses."""
        self.failures += 1
        if self.failures >= FAILURES_BEFORE_PAUSE:
            doublings = min(self.failures - FAILURES_BEFORE_PAUSE, 10)
            self.failed_until = now + min(FIRST_PAUSE_S * 2**doublings, LONGEST_PAUSE_S)

    @property
    def count(self) -> int:
        """Machines that count against the limit, also those that are only planned."""
        return self.held + sum(claim.room is not None for claim in self.claims.values())

    @property
    def spare_machines(self) -> int:
        """Machines without a job, also those that are only planned: what `warm` counts."""
        refills = sum(claim.purpose is Purpose.REFILL for claim in self.claims.values())
        return len(self.waiting) + len(self.coming) + refills

    def has_unknown_under_way(self) -> bool:
        """True while a reserved machine may belong to an action that has not named it yet."""
        return any(
            claim.purpose in {Purpose.JOB, Purpose.REFILL}
            or (claim.purpose is Purpose.ASK and claim.machine_id is None)
            for claim in self.claims.values()
        )

    def engaged(self) -> set[str]:
        """Machines that something is under way for."""
        ids = (claim.machine_id for claim in self.claims.values())
        return {machine_id for machine_id in ids if machine_id is not None}

    def idle(self) -> Iterator[str]:
        """Waiting machines that nothing is under way for, the one that has waited longest first."""
        engaged = self.engaged() if self.waiting else frozenset()
        return (machine_id for machine_id in self.waiting if machine_id not in engaged)
