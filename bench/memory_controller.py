"""`python -m bench.memory_controller FOLDER MACHINES`: what a controller with so many machines holds.

The plan learns of the machines as it does after a start: from the ledger's records, by `MachineMoved`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from firerunner.clock import SteadyClock
from firerunner.ledger import JobState, Keyring, Ledger, MachineRecord, MachineState, NewJob
from firerunner.machines.spec import Resources
from firerunner.planning import (
    Fleet,
    HostChanged,
    HostFacts,
    MachineMoved,
    PoolChanged,
    PoolFacts,
    Tick,
    plan,
)

HOSTS, POOLS, TOGETHER = 100, 10, 64
SIZE = Resources(1, 1024, 1024)


async def main(folder: Path, machines: int) -> None:
    """Measure before and after."""
    async with _ledger(folder) as ledger:
        fleet = _fleet(machines)
        await ledger.machines(frozenset({MachineState.CREATING}))
        await ledger.jobs(frozenset({JobState.RETURNED}))
        empty_kib = rss_kib()
        for _ in range(3):
            await _look(ledger, fleet)
        full_kib = rss_kib()
        assert len(fleet.machines) == machines
    print(json.dumps({"empty_kib": empty_kib, "full_kib": full_kib}))


async def seed(folder: Path, machines: int) -> None:
    """Write so many busy machines and their jobs."""
    async with _ledger(folder) as ledger:
        for begin in range(0, machines, TOGETHER):
            numbers = range(begin, min(begin + TOGETHER, machines))
            await asyncio.gather(*(_busy(ledger, number) for number in numbers))


@contextlib.asynccontextmanager
async def _ledger(folder: Path) -> AsyncIterator[Ledger]:
    keys = Keyring.load_or_create(folder / "keys")
    ledger = await Ledger.open(f"sqlite:///{folder}/ledger.db", keys, SteadyClock())
    try:
        yield ledger
    finally:
        await ledger.aclose()


def _fleet(machines: int) -> Fleet:
    fleet, room = Fleet(), Resources(machines, machines * 1024, 1 << 40)
    names = tuple(f"kvm-{number}" for number in range(HOSTS))
    for name in names:
        plan(fleet, HostChanged(HostFacts(name, room, usable=True), at=0.0))
    for number in range(POOLS):
        facts = PoolFacts(
            name=f"pool-{number}",
            resources=SIZE,
            hosts=names,
            limit=machines,
            warm=0,
            check_interval_s=3600.0,
            image_ready=True,
        )
        plan(fleet, PoolChanged(facts, at=0.0))
    return fleet


async def _busy(ledger: Ledger, number: int) -> None:
    name, job_id = f"fr-{number:012d}", number + 1
    pool, host = f"pool-{number % POOLS}", f"kvm-{number % HOSTS}"
    await ledger.reserve(name, pool, host, SIZE, "sha256:" + "1" * 64, asking=True)
    await ledger.keep_answer(name, json.dumps({"id": job_id, "token": "glcbt-x"}).encode())
    await ledger.take(name, NewJob(job_id, "glcbt-x", "unit", 7, "grp/app", 3600))
    await ledger.end_ask(name, "job")
    for step in (MachineState.CREATING, MachineState.BOOTING, MachineState.WAITING):
        await ledger.move_machine(name, step)
    await ledger.deliver(job_id)


async def _look(ledger: Ledger, fleet: Fleet) -> None:
    for record in await ledger.machines():
        plan(fleet, _moved(record))
    await ledger.jobs()
    plan(fleet, Tick(at=1.0))


def _moved(record: MachineRecord) -> MachineMoved:
    return MachineMoved(
        record.machine_id,
        record.pool,
        record.host,
        record.resources,
        record.state,
        has_job=record.job_id is not None,
        room_held=record.room_held,
        at=0.5,
        job_id=record.job_id,
    )


def rss_kib() -> float:
    """What this process holds in memory after a collection (proc(5): statm)."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
