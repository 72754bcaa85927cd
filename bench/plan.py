"""plan: what 100 changes cost with 1,000, 10,000 and 100,000 machines: each machine once more than before.

A change is what a fleet sees all day: a machine moves on, ends, another one takes its place, a pool asks. The
plan looks at no other machine for it, so the cost should not grow.
"""

from __future__ import annotations

import gc
import time

from bench.rows import Goal, Row, measured
from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning import (
    Fleet,
    HostChanged,
    HostFacts,
    MachineMoved,
    MachineRemoved,
    PoolChanged,
    PoolFacts,
    PoolWoken,
    Tick,
    plan,
)

SIZES = (1_000, 10_000, 100_000)
CHANGES, ROUNDS = 100, 15
HOSTS, POOLS = 100, 10
AT_MOST = 2.0
SIZE = Resources(1, 1024, 1024)


async def measure(rounds: int = ROUNDS) -> list[Row]:
    """The sizes in turn, `rounds` times each."""
    fleets = {size: fleet_of(size) for size in SIZES}
    spent: dict[int, list[float]] = {size: [] for size in SIZES}
    gc.collect()
    gc.freeze()
    try:
        for turn in range(rounds):
            for size, fleet in fleets.items():
                began = time.perf_counter()
                changes(fleet, size, turn)
                spent[size].append(time.perf_counter() - began)
    finally:
        gc.unfreeze()
    first, *larger = SIZES
    goal = Goal("ratio", "<=", AT_MOST)
    return [
        measured(f"{CHANGES} changes at {first:,} machines", spent[first]),
        *(
            measured(f"{CHANGES} changes at {size:,} machines", spent[size], spent[first], target=goal)
            for size in larger
        ),
    ]


def fleet_of(size: int) -> Fleet:
    """So many busy machines on the hosts, with room for a tenth more."""
    fleet, per_host = Fleet(), size // HOSTS
    room = Resources(per_host * 11 // 10 + 10, (per_host + per_host // 10 + 10) * 1024, 1 << 40)
    names = tuple(f"kvm-{number}" for number in range(HOSTS))
    for name in names:
        plan(fleet, HostChanged(HostFacts(name, room, usable=True), at=0.0))
    for number in range(POOLS):
        facts = PoolFacts(
            name=f"pool-{number}",
            resources=SIZE,
            hosts=names,
            limit=size * 2,
            warm=0,
            check_interval_s=3600.0,
            image_ready=True,
        )
        plan(fleet, PoolChanged(facts, at=0.0))
    for number in range(size):
        plan(fleet, moved(f"fr-{number:012d}", number, MachineState.BUSY, at=0.0))
    plan(fleet, Tick(at=1.0))
    return fleet


def moved(machine_id: str, number: int, state: MachineState, *, at: float) -> MachineMoved:
    """A machine with its job."""
    return MachineMoved(
        machine_id=machine_id,
        pool=f"pool-{number % POOLS}",
        host=f"kvm-{number % HOSTS}",
        resources=SIZE,
        state=state,
        has_job=True,
        job_id=number + 1,
        room_held=state is not MachineState.GONE,
        at=at,
    )


def changes(fleet: Fleet, size: int, turn: int) -> None:
    """A fifth of them each: a machine retires, is gone, a new one is busy, a pool is woken, time passes."""
    at = 10.0 + turn
    for number in range(CHANGES // 5):
        which = (turn * CHANGES + number) * 7919 % size
        machine_id = f"fr-{which:012d}"
        plan(fleet, moved(machine_id, which, MachineState.RETIRING, at=at))
        plan(fleet, MachineRemoved(machine_id, at=at))
        plan(fleet, moved(machine_id, which, MachineState.BUSY, at=at))
        plan(fleet, PoolWoken(f"pool-{number % POOLS}", at=at))
        plan(fleet, Tick(at=at))
