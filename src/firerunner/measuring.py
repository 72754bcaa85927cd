"""Turns what the packages tell (moves, calls, requests) and hold (fleet, disks) into metrics."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from firerunner import __version__
from firerunner.gate.ports import Sights
from firerunner.gitlab.measured import Call
from firerunner.ledger import JobRecord, JobState, MachineRecord, MachineState
from firerunner.ledger.moves import JobMove, MachineMove, Move
from firerunner.machines.spec import Started
from firerunner.planning import PoolState, Standing
from firerunner.telemetry import Metrics, Sample
from firerunner.telemetry import catalogue as its

MIB = 1024 * 1024
LAG_EVERY_S = 0.5
REMEMBERED = 10_000
"""Jobs whose first output is waited for."""
_ENDS = frozenset({"success", "failed", "canceled"})
_OVER = frozenset({JobState.ENDED, JobState.RETURNED})


@dataclass(frozen=True, slots=True)
class _Begun:
    """A job that is running, as far as its times go."""

    pool: str
    start: str
    taken_at: float
    running_at: float
    queued_s: float | None = None


class Measuring(Sights):
    """What happens, counted and timed. It is an onlooker of the ledger, and the gate's sights."""

    def __init__(
        self, metrics: Metrics, keeps_warm: Callable[[str], bool], clock: Callable[[], float]
    ) -> None:
        """`keeps_warm`: whether a pool has warm machines, by its name. `clock`: the ledger's."""
        self._metrics = metrics
        self._keeps_warm = keeps_warm
        self._clock = clock
        self._begun: OrderedDict[int, _Begun] = OrderedDict()
        self._restored: set[str] = set()

    # The ledger's onlooker

    def moved(self, move: Move) -> None:
        """A write has been committed."""
        if isinstance(move, MachineMove):
            self._machine_moved(move)
        else:
            self._job_moved(move)

    def took(self, operation: str, seconds: float, *, failed: bool) -> None:
        """The ledger has been read or written."""
        self._metrics.observe(its.DATABASE, seconds, operation)
        if failed:
            self._metrics.count(its.DATABASE_ERRORS, operation)

    def _machine_moved(self, move: MachineMove) -> None:
        machine = move.machine
        if move.was is None:
            return
        self._metrics.observe(its.MACHINE_STATE, move.stayed_s, machine.pool, move.was)
        if machine.state is MachineState.FAILED:
            self._metrics.count(its.FAILURES, machine.pool, machine.host, move.was)
        if machine.state in {MachineState.RETIRING, MachineState.GONE}:
            self._restored.discard(machine.machine_id)

    def _job_moved(self, move: JobMove) -> None:
        job, machine = move.job, move.machine
        if move.was is None:
            self._metrics.count(its.JOBS_TAKEN, job.pool)
            return
        self._metrics.observe(its.JOB_STATE, move.stayed_s, job.pool, move.was)
        if job.state is JobState.ASSIGNED and job.attempts == 1 and machine and self._keeps_warm(job.pool):
            hit = machine.state is MachineState.WAITING
            self._metrics.count(its.WARM, job.pool, "hit" if hit else "miss")
        elif job.state is JobState.RUNNING and machine is not None:
            start = self._start_of(machine, job)
            self._metrics.observe(its.JOB_START, job.state_since - job.taken_at, job.pool, start)
            self._begun[job.job_id] = _Begun(job.pool, start, job.taken_at, job.state_since)
            if len(self._begun) > REMEMBERED:
                self._begun.popitem(last=False)
        elif job.state in _OVER:
            self._begun.pop(job.job_id, None)
            outcome = job.gitlab_status if job.gitlab_status in _ENDS else "unknown"
            if job.state is JobState.RETURNED and outcome != "canceled":
                outcome = "system_failure"
            self._metrics.count(its.JOBS, job.pool, outcome or "unknown")

    def _start_of(self, machine: MachineRecord, job: JobRecord) -> str:
        if machine.booted_at is not None and machine.booted_at <= job.taken_at:
            return "warm"
        return "restored" if machine.machine_id in self._restored else "cold"

    # The gate's sights

    def answered(self, activity: str, status: int, received: int, sent: int) -> None:
        """A guest's request is over."""
        self._metrics.count(its.GATE_REQUESTS, activity, str(status) if status else "none")
        self._metrics.count(its.GATE_RECEIVED, activity, by=received)
        self._metrics.count(its.GATE_SENT, activity, by=sent)

    def first_word(self, job_id: int, queued_s: float | None) -> None:
        """The job's runner has spoken; the ledger's move was told just before."""
        begun = self._begun.pop(job_id, None)
        if begun is None or queued_s is None:
            return
        total_s = queued_s + begun.running_at - begun.taken_at
        self._metrics.observe(its.JOB_TO_RUNNING, total_s, begun.pool, begun.start)
        self._begun[job_id] = _Begun(begun.pool, begun.start, begun.taken_at, begun.running_at, queued_s)

    def first_output(self, job_id: int) -> None:
        """GitLab has the first bytes of its log. Not known of jobs that began before this process did."""
        begun = self._begun.pop(job_id, None)
        if begun is not None and begun.queued_s is not None:
            total_s = begun.queued_s + self._clock() - begun.taken_at
            self._metrics.observe(its.JOB_TO_OUTPUT, total_s, begun.pool, begun.start)

    # Calls

    def heard(self, gitlab: str, call: Call) -> None:
        """A call to a GitLab is over."""
        outcome = "none" if call.status is None else str(call.status)
        self._metrics.observe(its.GITLAB_CALLS, call.seconds, gitlab, call.endpoint, outcome)
        if call.remaining is not None:
            self._metrics.set(its.GITLAB_HEADROOM, call.remaining, gitlab)
        if call.limit is not None:
            self._metrics.set(its.GITLAB_LIMIT, call.limit, gitlab)

    def drove(self, operation: str, machine: MachineRecord, seconds: float, *, failed: bool) -> None:
        """A driver's call is over."""
        self._metrics.observe(its.DRIVER, seconds, machine.host, operation, "failed" if failed else "ok")

    def started(self, machine_id: str, how: Started) -> None:
        """A machine runs."""
        if how is Started.RESTORED:
            self._restored.add(machine_id)

    def counted_gate(self, kind: str, detail: str) -> None:
        """For the gate's `count`."""
        self._metrics.count(its.GATE_EVENTS, kind, detail)

    def counted_gitlab(self, activity: str, kind: str) -> None:
        """For `count` of the GitLab clients."""
        self._metrics.count(its.GITLAB_ERRORS, activity, kind)

    def counted_hook(self, outcome: str) -> None:
        """For the webhook's `count`."""
        self._metrics.count(its.HOOKS, outcome)

    def counted_api(self, right: str, status: str) -> None:
        """For the API's `count`."""
        self._metrics.count(its.API_REQUESTS, right, status)


def expect(metrics: Metrics, pools: Iterable[str], hosts: Iterable[str]) -> None:
    """Make known what alerts look at, so that the first leak or refusal is seen as a step. What has a pool
    and a host is too much for that."""
    for host in hosts:
        metrics.count(its.LEAKS, host, by=0)
    for pool in pools:
        for answer in ("job", "nothing", "refused", "trouble"):
            metrics.count(its.ASKS, pool, answer, by=0)
        for outcome in (*sorted(_ENDS), "system_failure"):
            metrics.count(its.JOBS, pool, outcome, by=0)
    for outcome in ("woke", "ignored"):
        metrics.count(its.HOOKS, outcome, by=0)
    for operation in ("read", "write"):
        metrics.count(its.DATABASE_ERRORS, operation, by=0)
    metrics.count(its.TERMS, by=0)
    metrics.count(its.SPANS_LOST, by=0)


def fleet_samples(standing: Standing, events_waiting: int) -> Iterator[Sample]:
    """What the leader knows of machines, pools and hosts."""
    for (pool, host, state), count in standing.machines.items():
        yield its.MACHINES, (pool, host, state), count
    for pool, told in standing.pools.items():
        for each in PoolState:
            yield its.POOL_STATE, (pool, each), float(told.state is each)
        yield its.POOL_LIMIT, (pool,), told.limit
        yield its.POOL_WARM, (pool,), told.warm
        yield its.JOBS_HOMELESS, (pool,), told.homeless
    for name, seen in standing.hosts.items():
        capacity, used = seen.capacity, seen.used
        yield its.HOST_USABLE, (name,), float(seen.usable)
        yield its.HOST_VCPUS, (name,), capacity.vcpu
        yield its.HOST_VCPUS_USED, (name,), used.vcpu
        yield its.HOST_MEMORY, (name,), capacity.memory_mib * MIB
        yield its.HOST_MEMORY_USED, (name,), used.memory_mib * MIB
        yield its.HOST_DISK, (name,), capacity.disk_mib * MIB
        yield its.HOST_DISK_USED, (name,), used.disk_mib * MIB
    yield its.EVENTS_WAITING, (), events_waiting


def place_samples(directories: Mapping[str, Path]) -> Iterator[Sample]:
    """How full the file systems of these directories are, by what they are for."""
    yield its.BUILD, (__version__,), 1.0
    for name, path in directories.items():
        try:
            usage = shutil.disk_usage(path)
        except OSError:  # not made yet
            continue
        yield its.DISK_FREE, (name,), usage.free
        yield its.DISK_SIZE, (name,), usage.total


async def watch_loop(metrics: Metrics) -> None:
    """Run for ever: how late the loop comes round is how long a guest or a hook may have to wait."""
    while True:
        began = time.monotonic()
        await asyncio.sleep(LAG_EVERY_S)
        metrics.observe(its.LOOP_LAG, max(0.0, time.monotonic() - began - LAG_EVERY_S))
