"""Pure: the whole fleet at one moment, as `firerunner top` shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from firerunner.ledger import HostOrder, HostUse, JobRecord, JobState, Lease, MachineRecord, MachineState
from firerunner.machines.spec import Resources
from firerunner.settings import Settings


@dataclass(frozen=True, slots=True)
class PoolLine:
    """What a pool has now."""

    name: str
    limit: int | None
    """At most so many machines; None for a pool that is in the ledger only, such as one of a sized tag."""
    machines: Mapping[MachineState, int]
    jobs: Mapping[JobState, int]
    oldest_wait_s: float | None
    """Of the jobs whose runner has not spoken yet, how long the first one has waited since its hand-over."""


@dataclass(frozen=True, slots=True)
class HostLine:
    """What is in use on a host now."""

    name: str
    use: HostUse
    machines: int
    used: Resources


@dataclass(frozen=True, slots=True)
class MachineLine:
    """A machine and its job."""

    machine_id: str
    pool: str
    host: str
    state: MachineState
    for_s: float
    job_id: int | None
    job_name: str | None
    job_state: JobState | None
    project: str | None


@dataclass(frozen=True, slots=True)
class Overview:
    """One look."""

    at: float
    """Unix seconds."""
    leader: str | None
    """The controller that leads; None if none does."""
    pools: list[PoolLine]
    hosts: list[HostLine]
    machines: list[MachineLine]
    """Those that have been in their state for the longest time first."""


def overview(
    settings: Settings,
    machines: Collection[MachineRecord],
    jobs: Collection[JobRecord],
    orders: Mapping[str, HostOrder],
    lease: Lease | None,
    now: float,
) -> Overview:
    """`machines` that are not gone, `jobs` that are not over."""
    named = {job.job_id: job for job in jobs}
    limits = {pool.name: pool.limit for pool in settings.pools if pool.sized is None}
    pools = list(dict.fromkeys([*limits, *sorted({m.pool for m in machines} | {job.pool for job in jobs})]))
    hosts = list(dict.fromkeys([*(host.name for host in settings.hosts), *sorted(m.host for m in machines)]))
    return Overview(
        at=now,
        leader=lease.holder or None if lease else None,
        pools=[
            _pool(
                name,
                limits.get(name),
                [machine for machine in machines if machine.pool == name],
                [job for job in jobs if job.pool == name],
                now,
            )
            for name in pools
        ],
        hosts=[_host(name, [m for m in machines if m.host == name], orders.get(name)) for name in hosts],
        machines=[
            _machine(machine, named.get(machine.job_id or -1), now)
            for machine in sorted(machines, key=lambda each: (each.state_since, each.machine_id))
        ],
    )


def _pool(
    name: str, limit: int | None, machines: Collection[MachineRecord], jobs: Collection[JobRecord], now: float
) -> PoolLine:
    waits = [now - job.taken_at for job in jobs if job.first_call_at is None]
    return PoolLine(
        name=name,
        limit=limit,
        machines=dict(Counter(machine.state for machine in machines)),
        jobs=dict(Counter(job.state for job in jobs)),
        oldest_wait_s=max(waits, default=None),
    )


def _host(name: str, machines: Collection[MachineRecord], order: HostOrder | None) -> HostLine:
    used = sum((machine.resources for machine in machines if machine.room_held), Resources(0, 0, 0))
    return HostLine(name, order.use if order else HostUse.NORMAL, len(machines), used)


def _machine(machine: MachineRecord, job: JobRecord | None, now: float) -> MachineLine:
    return MachineLine(
        machine_id=machine.machine_id,
        pool=machine.pool,
        host=machine.host,
        state=machine.state,
        for_s=round(now - machine.state_since, 1),
        job_id=machine.job_id,
        job_name=job.name if job else None,
        job_state=job.state if job else None,
        project=job.project_path if job else None,
    )
