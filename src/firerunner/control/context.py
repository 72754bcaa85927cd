"""What every observer and actor is given: the ledger, the drivers, GitLab, the pools, the clock."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from firerunner.control.locking import Locks
from firerunner.control.pools import KnownPools
from firerunner.control.warming import given
from firerunner.errors import NotLeader
from firerunner.gitlab import GitLabCalls, RestClient
from firerunner.images import Image
from firerunner.ledger import HostOrder, JobRecord, Ledger, MachineRecord, MachineState
from firerunner.machines.driver import Driver
from firerunner.machines.spec import Egress, Started
from firerunner.planning import Event, MachineMoved, MachineRemoved
from firerunner.settings import PoolSettings
from firerunner.telemetry import Metrics

DEFAULT_JOB_S = 86_400.0
"""For jobs whose pool is no longer configured."""

Clock = Callable[[], float]


class Drove(Protocol):
    """Told of each driver's call (`create`, `destroy`) when it is over. Must not block."""

    def __call__(self, operation: str, machine: MachineRecord, seconds: float, *, failed: bool) -> None: ...


def _unseen(operation: str, machine: MachineRecord, seconds: float, *, failed: bool) -> None:
    """Nobody looks."""


async def _surely() -> None:
    """There is nobody else."""


@dataclass(frozen=True, slots=True)
class LostAsk:
    """An ask whose answer nobody has."""

    seq: int
    """Of the journal's row that says that it is to be looked up."""
    machine_id: str
    pool: str
    gitlab: str
    asked_at: float


@dataclass(slots=True)
class Context:
    """Handed from the app to control; nothing in it is decided here."""

    ledger: Ledger
    drivers: Mapping[str, Driver]
    """By host name."""
    gitlab: Callable[[str], GitLabCalls]
    """A GitLab's clients by its name, those of this moment. Raises GitLabError if it is not configured."""
    egress: Callable[[PoolSettings], tuple[Egress, ...]]
    """Where a pool's guests may connect to."""
    pools: KnownPools
    resolve_image: Callable[[str], Image]
    """Name or digest to a checked image. Raises ImageError."""
    gate_address: str
    """host:port where the gate listens, as the machines' hosts reach it."""
    metrics: Metrics
    clock: Clock
    log: Any
    wake_gate: Callable[[str], None] = field(default=lambda machine_id: None)
    """Tells the gate that a job waits for the machine of that id."""
    spoke_at: Callable[[str], float] = field(default=lambda machine_id: 0.0)
    """When the machine's runner last spoke to the gate about its job (Unix seconds); 0 if never."""
    heard_at: Callable[[str], float] = field(default=lambda machine_id: 0.0)
    """When GitLab last answered it (Unix seconds); 0 if never."""
    assure: Callable[[], Awaitable[None]] = field(default=_surely)
    """Called before anything is done outside. Raises NotLeader if another leads."""
    drove: Drove = field(default=_unseen)
    """Told of each driver's call."""
    started: Callable[[str, Started], None] = field(default=lambda machine_id, how: None)
    """Told how each machine came to run."""
    reading: set[str] = field(default_factory=set)
    """Machines whose kept answer is being read."""
    rest: Callable[[str], RestClient | None] = field(default=lambda name: None)
    """A GitLab's REST API by its name; None if there is no api_token for it."""
    lost: dict[str, LostAsk] = field(default_factory=dict)
    """Asks by machine id whose answer nobody has, and which are still looked up."""
    limited: dict[str, float] = field(default_factory=dict)
    """By the mark of a runner token: until when (Unix seconds) GitLab has asked not to be asked with it."""
    post: Callable[[Event], None] = field(default=lambda event: None)
    """Hands an event to the loop."""
    launch: Callable[[MachineRecord], None] = field(default=lambda machine: None)
    """Starts making a reserved machine if its host may get one; else the plan says what is to be done."""
    host_faults: dict[str, str] = field(default_factory=dict)
    """Hosts that could not be looked at the last time, and why."""
    host_troubles: dict[str, str] = field(default_factory=dict)
    """Hosts that may get no machine now, and why."""
    host_pauses: dict[str, float] = field(default_factory=dict)
    """Until when a host that could not make a machine is left alone."""
    host_failures: dict[str, int] = field(default_factory=dict)
    """How many machines in a row could not be made there."""
    host_orders: Mapping[str, HostOrder] = field(default_factory=dict)
    """What operators have said of hosts."""
    gitlab_faults: dict[str, str] = field(default_factory=dict)
    """GitLabs that did not answer the last ask, and why."""
    last_update: dict[str, str] = field(default_factory=dict)
    """Each pool's X-GitLab-Last-Update, to be sent back with its next ask."""
    locks: Locks = field(default_factory=Locks)
    """By machine id, and by `job-` and the job's number."""

    @contextmanager
    def driving(self, operation: str, machine: MachineRecord) -> Iterator[None]:
        """Around a driver's call, which is timed."""
        began, failed = time.monotonic(), True
        try:
            yield
            failed = False
        finally:
            self.drove(operation, machine, time.monotonic() - began, failed=failed)

    @contextmanager
    def outlived(self, doing: str) -> Iterator[None]:
        """Log what goes wrong in one round of an observer; the next round looks again.

        A controller that is no longer the leader must not go on: NotLeader gets out.
        """
        try:
            yield
        except NotLeader:
            raise
        except Exception as error:
            self.log.error("a round broke off", doing=doing, error=str(error), exc_info=error)

    def post_machine(self, machine: MachineRecord) -> None:
        """Tell the plan where the machine is now."""
        if machine.state in {MachineState.BOOTING, MachineState.WAITING}:
            self.host_failures.pop(machine.host, None)
        self.post(
            MachineMoved(
                machine_id=machine.machine_id,
                pool=machine.pool,
                host=machine.host,
                resources=machine.resources,
                state=machine.state,
                has_job=machine.job_id is not None,
                job_id=machine.job_id,
                room_held=machine.room_held,
                since=machine.state_since,
                image=machine.image_digest,
                baked=machine.baked,
                at=self.clock(),
            )
        )

    def baked(self, pool: PoolSettings) -> str:
        """What tells machines that were given one thing at their boot from those that were given another."""
        return self.ledger.mark(given(pool))

    def post_removed(self, machine_id: str) -> None:
        """Tell the plan that nothing of the machine is left."""
        self.post(MachineRemoved(machine_id=machine_id, at=self.clock()))

    def job_deadline_s(self, job: JobRecord) -> float:
        """How long the job may run: the shorter of GitLab's timeout and the pool's `max_job_time`."""
        pool = self.pools.get(job.pool)
        ours = pool.max_job_time if pool else DEFAULT_JOB_S
        return min(ours, job.timeout_s or ours)
