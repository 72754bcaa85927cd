"""What a restored machine of the qemu driver does when its state is no good."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path

import pytest

from firerunner.machines.qemu import QemuDriver, processes
from firerunner.machines.qemu.states import State, StateFiles, empty
from firerunner.machines.spec import Started
from tests.contract.gate import serving
from tests.contract.kits import QemuKit

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

ONE = "fr-qemurestore1"


async def test_a_state_that_does_not_restore_is_removed_and_the_machine_boots(
    restored_kit: QemuKit, caplog: pytest.LogCaptureFixture
) -> None:
    driver = QemuDriver(restored_kit.state_dir, accelerator="tcg")
    garble_devices(restored_kit.state_dir / "states")
    async with serving("echo done") as gate:
        spec = restored_kit.spec(ONE, gate.address)
        await driver.save_state(spec.image, spec.resources)
        with caplog.at_level(logging.WARNING):
            started = await driver.create(spec)

        assert started is Started.COLD
        assert await gate.report.get() == "done\n"

    assert "is not used any more, and made anew" in caplog.text
    assert [seen.machine_id for seen in await driver.list()] == [ONE]
    assert StateFiles(restored_kit.state_dir / "states").keys() == []
    await driver.destroy(ONE)
    await driver.aclose()
    assert restored_kit.leftovers() == []


async def test_a_stop_ends_the_template_that_is_being_saved(restored_kit: QemuKit) -> None:
    states = StateFiles(restored_kit.state_dir / "states")
    states.prune(())
    driver = QemuDriver(restored_kit.state_dir, accelerator="tcg")
    spec = restored_kit.spec(ONE, "127.0.0.1:1")
    saving = asyncio.create_task(driver.save_state(spec.image, spec.resources))
    templates = restored_kit.state_dir / "templates"
    async with asyncio.timeout(60):
        while not processes.scan(templates):
            await asyncio.sleep(0.01)

    await driver.aclose()

    await saving
    assert states.keys() == []
    assert processes.scan(templates) == []
    assert list(templates.iterdir()) == []


def garble_devices(states: Path) -> None:
    """A state with right digests, of which QEMU cannot make a machine."""
    files = StateFiles(states)
    (key,) = files.keys()
    facts = facts_of(states / key)
    state = files.read(facts)
    assert state is not None
    devices = bytearray(os.pread(state.devices, os.fstat(state.devices).st_size, 0))
    devices[:8] = b"no state"
    garbled = empty("devices")
    os.pwrite(garbled, devices, 0)
    files.write(facts, State(state.memory, garbled, state.disk))


def facts_of(directory: Path) -> dict[str, str]:
    facts: dict[str, str] = json.loads((directory / "facts.json").read_text())["facts"]
    return facts
