"""density: memory of one more idle guest, cold and restored.

A guest is idle when its runner waits at the gate for a job. Its memory is the proportional set size (PSS:
proc_pid_smaps(5)) of QEMU and of its keeper: a page that several processes share counts in parts. One
more guest of several is measured, as the growth of the sum over all.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Final

from bench.answer import DEADLINE_S, SIZE
from bench.rows import Goal, Row, measured
from bench.waiting_gate import WaitingGate, waiting_gate
from firerunner.building import build
from firerunner.cli.output import errors, reported
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.images import Store
from firerunner.machines.qemu import QemuDriver
from firerunner.machines.spec import ImageFiles, MachineSpec, Started

GUESTS: Final = 6
"""The first of each kind is not counted: it is the only user of what the others share with it."""

GOAL: Final = Goal("ratio", "<=", 0.6)
SETTLED_S: Final = 2.0


async def measure() -> list[Row]:
    """Start guests of both kinds in turn, and see how the memory of each kind grows."""
    with reported() as progress:
        image = await build(demo_recipe(None), Store(cache_dir() / "images"), progress=progress)
    ids: dict[Started, list[str]] = {Started.COLD: [], Started.RESTORED: []}
    grown: dict[Started, list[float]] = {Started.COLD: [], Started.RESTORED: []}
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as directory:
        state_dir = Path(directory)
        state_dir.chmod(0o711)
        driver = QemuDriver(state_dir, vcpu=2 * GUESTS, memory_mib=2 * GUESTS * SIZE.memory_mib)
        try:
            await driver.save_state(image.files, SIZE)
            async with waiting_gate() as gate:
                for turn in range(GUESTS):
                    errors.print(f"density: guests {turn + 1} of {GUESTS}")
                    for kind, machine_ids in ids.items():
                        before = _pss_mib(state_dir, machine_ids)
                        machine_ids.append(f"fr-{kind[:4]}{turn:08}")
                        await _idle(driver, image.files, gate, machine_ids[-1], kind)
                        grown[kind].append(_pss_mib(state_dir, machine_ids) - before)
        finally:
            for sighting in await driver.list():
                await driver.destroy(sighting.machine_id)
            await driver.aclose()
    cold, restored = (grown[kind][1:] for kind in ids)
    return [measured("one more idle guest, restored beside cold", restored, cold, unit="MiB", target=GOAL)]


async def _idle(
    driver: QemuDriver, image: ImageFiles, gate: WaitingGate, machine_id: str, wanted: Started
) -> None:
    spec = MachineSpec(machine_id, SIZE, image, gate.address, "of-nobody", restore=wanted is Started.RESTORED)
    async with asyncio.timeout(DEADLINE_S):
        started = await driver.create(spec)
        if started is not wanted:
            raise RuntimeError(f"a machine that was to be {wanted} is {started}")
        await gate.has_asked(machine_id)
    await asyncio.sleep(SETTLED_S)


def _pss_mib(state_dir: Path, machine_ids: list[str]) -> float:
    """Of QEMU and keeper of all these machines."""
    return sum(_pss_kib(pid) for machine_id in machine_ids for pid in _pids(state_dir, machine_id)) / 1024


def _pids(state_dir: Path, machine_id: str) -> tuple[int, int]:
    state = json.loads((state_dir / "machines" / machine_id / "state.json").read_text())
    return state["vmm"]["pid"], state["keeper"]["pid"]


def _pss_kib(pid: int) -> int:
    lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
