"""What every driver promises (`firerunner.machines.driver`)."""

from __future__ import annotations

import asyncio

import pytest

from firerunner.errors import FireRunnerError
from firerunner.machines.spec import Sighting
from tests.contract.gate import serving
from tests.contract.kits import Kit
from tests.contract.outside import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

ONE, TWO = "fr-contract0001", "fr-contract0002"


async def test_a_created_machine_is_seen_alive_until_it_is_destroyed(kit: Kit) -> None:
    driver = kit.driver()

    await driver.create(kit.spec(ONE))
    assert await driver.list() == [Sighting(ONE, alive=True)]

    await driver.destroy(ONE)
    assert await driver.list() == []
    assert kit.leftovers() == []


async def test_creating_again_changes_nothing(kit: Kit) -> None:
    driver = kit.driver()
    await driver.create(kit.spec(ONE))
    before = kit.leftovers()

    await driver.create(kit.spec(ONE))

    assert kit.leftovers() == before


async def test_creating_at_the_same_time_makes_one_machine(kit: Kit) -> None:
    driver = kit.driver()

    await asyncio.gather(*(driver.create(kit.spec(ONE)) for _ in range(3)))

    assert await driver.list() == [Sighting(ONE, alive=True)]


async def test_destroying_what_is_not_there_is_a_success(kit: Kit) -> None:
    driver = kit.driver()
    await driver.create(kit.spec(ONE))

    await driver.destroy(TWO)
    await driver.destroy(ONE)
    await driver.destroy(ONE)

    assert kit.leftovers() == []


async def test_destroying_at_the_same_time_is_a_success(kit: Kit) -> None:
    driver = kit.driver()
    await driver.create(kit.spec(ONE))

    await asyncio.gather(*(driver.destroy(ONE) for _ in range(3)))

    assert kit.leftovers() == []


async def test_a_guest_has_one_life_and_one_credential(kit: Kit) -> None:
    driver = kit.driver()
    async with serving("echo done") as gate:
        spec = kit.spec(ONE, gate.address)
        await driver.create(spec)

        assert await gate.report.get() == "done\n"
        await driver.create(spec)

    assert [seen.machine_id for seen in await driver.list()] == [ONE]
    assert gate.credentials == {f"Bearer credential-of-{ONE}"}


async def test_a_guest_that_reboots_has_ended_and_is_not_started_again(seeing_kit: Kit) -> None:
    driver = seeing_kit.driver()
    async with serving("echo done") as gate:
        spec = seeing_kit.spec(ONE, gate.address)
        await driver.create(spec)
        ended = await eventually(driver.list, lambda seen: not seen[0].alive)
        await driver.create(spec)

    assert ended == await driver.list() == [Sighting(ONE, alive=False, detail="guest reboot")]
    assert b"guest of fr-contract0001 is up" in await driver.console(ONE)


async def test_a_machine_has_the_room_that_was_asked_for(kit: Kit) -> None:
    driver = kit.driver()
    async with serving("nproc; grep MemTotal /proc/meminfo; cat /sys/block/vda/ro") as gate:
        spec = kit.spec(ONE, gate.address)
        await driver.create(spec)

        vcpu, _, memory_kib, _, read_only = (await gate.report.get()).split()

    assert (vcpu, read_only) == ("1", "1" if kit.root_is_shared else "0")
    assert 0.7 < int(memory_kib) / 1024 / spec.resources.memory_mib <= 1.0


async def test_machines_survive_the_death_of_their_creator(kit: Kit) -> None:
    async with serving("echo survived", hold=True) as gate:
        kit.create_and_die(kit.spec(ONE, gate.address))
        driver = kit.driver()
        assert await driver.list() == [Sighting(ONE, alive=True)]

        await gate.booted.wait()
        gate.go.set()

        assert await gate.report.get() == "survived\n"
    await driver.destroy(ONE)
    assert kit.leftovers() == []


async def test_a_killed_vmm_is_seen_with_its_signal(seeing_kit: Kit) -> None:
    driver = seeing_kit.driver()
    await driver.create(seeing_kit.spec(ONE))

    seeing_kit.kill_vmm(ONE)

    seen = await eventually(driver.list, lambda seen: not seen[0].alive)
    assert seen == [Sighting(ONE, alive=False, detail="VMM killed by signal 9")]
    await driver.destroy(ONE)
    assert seeing_kit.leftovers() == []


async def test_a_machine_of_which_nothing_is_written_down_is_found_and_destroyed(kit: Kit) -> None:
    driver = kit.driver()
    await driver.create(kit.spec(ONE))
    kit.forget(ONE)

    (found,) = await driver.list()
    assert (found.machine_id, found.alive) == (ONE, True)

    await driver.destroy(ONE)
    assert await driver.list() == []
    assert kit.leftovers() == []


async def test_machines_do_not_mix(kit: Kit) -> None:
    driver = kit.driver()
    async with serving("echo one") as first, serving("echo two") as second:
        await driver.create(kit.spec(ONE, first.address))
        await driver.create(kit.spec(TWO, second.address))

        assert (await first.report.get(), await second.report.get()) == ("one\n", "two\n")
        await driver.destroy(ONE)
        assert [seen.machine_id for seen in await driver.list()] == [TWO]


async def test_closing_the_driver_leaves_machines_running(kit: Kit) -> None:
    driver = kit.driver()
    await driver.create(kit.spec(ONE))

    await driver.aclose()

    assert await kit.driver().list() == [Sighting(ONE, alive=True)]


async def test_the_console_of_an_unknown_machine_is_empty(kit: Kit) -> None:
    assert await kit.driver().console(ONE) == b""


@pytest.mark.parametrize("name", ["../../etc", "fr-short", "fr-UPPERCASE000", "fr-0123456789abc", ""])
async def test_a_machine_id_of_another_shape_is_refused(kit: Kit, name: str) -> None:
    driver = kit.driver()

    with pytest.raises(FireRunnerError, match="not a machine id"):
        await driver.destroy(name)
