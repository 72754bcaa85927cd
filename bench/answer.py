"""answer: seconds from the VMM's start until its guest answers, cold and restored, 1, 4 and 8 at once.

A guest answers when its process 1 knows who it is and says so on the console: the same line in both kinds
of start, before the machine's disk and its first call. How long it takes until that call reaches the gate
is shown as well, with no goal. Both kinds take turns.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from bench.rows import Goal, Row, measured
from bench.waiting_gate import WaitingGate, waiting_gate
from firerunner.building import build
from firerunner.cli.output import errors, reported
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.images import Store
from firerunner.machines.qemu import QemuDriver
from firerunner.machines.spec import ImageFiles, MachineSpec, Resources, Started

ROUNDS: Final = 5
AT_ONCE: Final = (1, 4, 8)
GOALS: Final = {1: Goal("ratio", "<=", 0.12), 8: Goal("ratio", "<=", 0.15)}
SIZE: Final = Resources(vcpu=1, memory_mib=512, disk_mib=1024)
DEADLINE_S: Final = 120.0
LOOK_S: Final = 0.005

_NAMED: Final = b" named\r\n"
_CLOCK_TICKS: Final = 100


class Times(NamedTuple):
    """Of the last of the machines that were started at once."""

    answered_s: float
    called_s: float


async def measure() -> list[Row]:
    """Alternate cold and restored, `ROUNDS` times each, for each number at once."""
    with reported() as progress:
        image = await build(demo_recipe(None), Store(cache_dir() / "images"), progress=progress)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as directory:
        state_dir = Path(directory)
        state_dir.chmod(0o711)
        most = max(AT_ONCE)
        driver = QemuDriver(state_dir, vcpu=most, memory_mib=most * SIZE.memory_mib)
        try:
            await driver.save_state(image.files, SIZE)
            async with waiting_gate() as gate:
                for count in AT_ONCE:
                    rows += await _compared(driver, state_dir, image.files, gate, count)
        finally:
            for sighting in await driver.list():
                await driver.destroy(sighting.machine_id)
            await driver.aclose()
    return rows


async def _compared(
    driver: QemuDriver, state_dir: Path, image: ImageFiles, gate: WaitingGate, count: int
) -> list[Row]:
    cold: list[Times] = []
    restored: list[Times] = []
    for turn in range(ROUNDS):
        errors.print(f"answer: {count} at once, round {turn + 1} of {ROUNDS}")
        for started, times in ((Started.COLD, cold), (Started.RESTORED, restored)):
            machine_ids = [f"fr-{started[:4]}{count:02}{turn:02}{each:04}" for each in range(count)]
            times.append(await _started(driver, state_dir, image, gate, machine_ids, started))
    return [
        measured(
            f"VMM start to the guest's answer, restored beside cold, {count} at once",
            [each.answered_s for each in restored],
            [each.answered_s for each in cold],
            target=GOALS.get(count),
        ),
        measured(
            f"  to its first call at the gate, {count} at once",
            [each.called_s for each in restored],
            [each.called_s for each in cold],
        ),
    ]


async def _started(
    driver: QemuDriver,
    state_dir: Path,
    image: ImageFiles,
    gate: WaitingGate,
    machine_ids: list[str],
    wanted: Started,
) -> Times:
    """Start them all, wait for all, remove them."""
    specs = [
        MachineSpec(machine_id, SIZE, image, gate.address, "of-nobody", restore=wanted is Started.RESTORED)
        for machine_id in machine_ids
    ]
    async with asyncio.timeout(DEADLINE_S):
        looking = asyncio.create_task(_answered(state_dir, machine_ids))
        kinds = await asyncio.gather(*(driver.create(spec) for spec in specs))
        if set(kinds) != {wanted}:
            raise RuntimeError(f"a machine that was to be {wanted} was not: {kinds}")
        answered = await looking
        await gate.all_booted(machine_ids)
    first = min(_vmm_started_at(state_dir, machine_id) for machine_id in machine_ids)
    called_at = max(gate.booted_at[machine_id] for machine_id in machine_ids)
    for machine_id in machine_ids:
        await driver.destroy(machine_id)
    return Times(answered - first, called_at - first)


async def _answered(state_dir: Path, machine_ids: list[str]) -> float:
    """When the last of them had said its line, on the monotonic clock."""
    left = {state_dir / "machines" / machine_id / "console.log" for machine_id in machine_ids}
    while True:
        left = {path for path in left if not path.exists() or _NAMED not in path.read_bytes()}
        if not left:
            return time.monotonic()
        await asyncio.sleep(LOOK_S)


def _vmm_started_at(state_dir: Path, machine_id: str) -> float:
    """When the process that became QEMU was started, on the monotonic clock; to a hundredth of a second."""
    state = json.loads((state_dir / "machines" / machine_id / "state.json").read_text())
    suspended_s = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return float(state["vmm"]["start"]) / _CLOCK_TICKS - suspended_s
