"""Several hosts: one is lost, told to rest, or not believed; no job is lost and none runs twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from firerunner.control import sightings
from firerunner.errors import HostUnreachable, MachineError
from firerunner.fakes.gitlab.model import Job
from firerunner.fakes.machines import FakeDriver, Guest, good_life, start
from firerunner.ledger import HostUse, MachineRecord, MachineState
from firerunner.machines.spec import MachineSpec, Resources, Sighting

from .conftest import World

pytestmark = pytest.mark.anyio


async def never_boots(guest: Guest) -> None:
    await asyncio.Event().wait()


async def runs_for_ever(guest: Guest) -> None:
    await start(guest)
    await guest.say("working\n")
    await asyncio.Event().wait()


async def with_hosts(world: World, *names: str, **options: object) -> dict[str, FakeDriver]:
    """A new controller that has these hosts besides `local`, which is first."""
    more = {name: FakeDriver() for name in names}
    world.drivers.update(more)
    world.options = options
    await world.hand_over()
    await world.start()
    return more


async def machine_on(world: World, host: str, state: MachineState) -> MachineRecord:
    async def found() -> MachineRecord | None:
        return next((m for m in await world.machines() if m.host == host and m.state is state), None)

    record = await world.until(found)
    assert isinstance(record, MachineRecord)
    return record


async def with_jobs(world: World, count: int) -> list[Job]:
    """So many more jobs run, each in its machine."""
    before = len(await busy(world))
    jobs = [(await world.pipeline())[1] for _ in range(count)]

    async def all_run() -> bool:
        return len(await busy(world)) == before + count

    await world.until(all_run)
    return jobs


async def with_jobs_in_turn(world: World, count: int) -> None:
    """So many more jobs run. Each comes when no ask is in flight: one that finds nothing holds room, too."""

    async def no_ask() -> bool:
        return all(machine.ask_started_at is None for machine in await world.ledger.machines())

    for _ in range(count):
        await with_jobs(world, 1)
        await world.until(no_ask)


async def busy(world: World) -> list[MachineRecord]:
    return [machine for machine in await world.ledger.machines() if machine.state is MachineState.BUSY]


async def close(drivers: dict[str, FakeDriver]) -> None:
    for driver in drivers.values():
        await driver.aclose()


async def test_a_host_that_dies_gives_its_undelivered_jobs_to_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "LOST_S", 0.5)
    more = await with_hosts(world, "other")
    world.driver.life = never_boots
    _, job = await world.pipeline()
    await machine_on(world, "local", MachineState.BOOTING)
    world.driver.lose_power()

    assert (await world.ended(job)).status == "success"
    assert len(more["other"].created) == 1
    assert job.handed_out == 1
    world.driver.down = False
    await world.finish()
    await world.check_nothing_left()
    await close(more)


async def test_a_host_that_dies_has_its_running_jobs_reported_and_none_runs_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "LOST_BUSY_S", 0.5)
    more = await with_hosts(world, "other")
    world.driver.life = runs_for_ever
    _, job = await world.pipeline()
    await machine_on(world, "local", MachineState.BUSY)
    world.driver.lose_power()

    ended = await world.ended(job)
    assert (ended.status, ended.failure_reason) == ("failed", "runner_system_failure")
    retry = await world.until(lambda: _retried(world, job))
    assert (await world.ended(retry)).status == "success"
    assert len(more["other"].created) == 1
    world.driver.down = False
    await world.finish()
    await world.check_nothing_left()
    await close(more)


async def _retried(world: World, job: Job) -> Job | None:
    return next((each for each in world.gitlab.jobs() if each.name == job.name and each.id != job.id), None)


async def test_a_daemon_that_is_away_for_a_moment_costs_no_job(world: World) -> None:
    world.driver.life = runs_for_ever
    _, job = await world.pipeline()
    machine = await machine_on(world, "local", MachineState.BUSY)
    world.driver.down = True

    async def noticed() -> bool:
        return "local" in world.context.host_faults

    await world.until(noticed)
    world.driver.down = False

    async def answers() -> bool:
        return "local" not in world.context.host_faults

    await world.until(answers)
    assert job.status == "running"
    assert [m.machine_id for m in await busy(world)] == [machine.machine_id]
    world.driver.kill(machine.machine_id)
    await world.ended(job)


@pytest.mark.parametrize("use", [HostUse.CORDONED, HostUse.DRAINING])
async def test_a_host_at_rest_gets_no_machine_until_it_is_told(world: World, use: HostUse) -> None:
    more = await with_hosts(world, "other")
    await world.ledger.use_host("local", use, "new memory")

    async def heeded() -> bool:
        return world.context.host_orders.get("local") is not None

    await world.until(heeded)
    for _ in range(3):
        _, job = await world.pipeline()
        assert (await world.ended(job)).status == "success"
    assert (world.driver.created, len(more["other"].created)) == ([], 3)

    await world.ledger.use_host("local", HostUse.NORMAL)
    await world.ledger.use_host("other", HostUse.CORDONED)
    _, job = await world.pipeline()
    assert (await world.ended(job)).status == "success"
    assert len(world.driver.created) == 1
    await close(more)


async def test_draining_ends_idle_machines_and_leaves_running_jobs(world: World) -> None:
    held = asyncio.Event()

    async def waits(guest: Guest) -> None:
        await start(guest)
        await held.wait()
        await guest.update("success")
        await guest.ended()

    world.driver.life = waits
    _, job = await world.pipeline()
    busy = await machine_on(world, "local", MachineState.BUSY)
    await world.hand_over()
    world.options = {"warm": 1}
    await world.start()
    idle = await machine_on(world, "local", MachineState.WAITING)
    await world.ledger.use_host("local", HostUse.DRAINING)

    async def only_busy() -> bool:
        return [m.machine_id for m in await world.ledger.machines()] == [busy.machine_id]

    await world.until(only_busy)
    assert (await world.ledger.machine(idle.machine_id)).reason == "its host is drained"  # type: ignore[union-attr]
    assert job.status == "running"
    held.set()
    assert (await world.ended(job)).status == "success"

    async def empty() -> bool:
        return not await world.ledger.machines()

    await world.until(empty)


async def test_the_reason_of_a_pool_names_what_an_operator_said(world: World) -> None:
    await world.ledger.use_host("local", HostUse.CORDONED, "new kernel")

    async def said() -> bool:
        return any(
            "cordoned by an operator (new kernel)" in why for why in world.controller.shows.reasons().values()
        )

    await world.until(said)


async def test_machines_go_to_the_emptiest_host_or_to_the_fullest(world: World) -> None:
    world.limit = 8
    more = await with_hosts(world, "other", memory_mib=512)
    world.driver.life = more["other"].life = runs_for_ever
    await with_jobs_in_turn(world, 4)
    spread = (len(world.driver.created), len(more["other"].created))
    await world.hand_over()
    world.options = {"placement": "pack", "memory_mib": 512}
    await world.start()
    await with_jobs_in_turn(world, 4)
    packed = (len(world.driver.created) - spread[0], len(more["other"].created) - spread[1])

    assert spread == (2, 2)
    assert sorted(packed) == [0, 4]
    await close(more)


async def test_a_small_host_takes_what_fits_and_the_rest_goes_elsewhere(world: World) -> None:
    world.driver.room = Resources(8, 600, 65536)
    world.limit = 6
    more = await with_hosts(world, "other")
    world.driver.life = more["other"].life = runs_for_ever
    await with_jobs(world, 5)

    assert len(world.driver.created) <= 2
    assert len(world.driver.created) + len(more["other"].created) == 5
    await close(more)


async def test_records_that_vanish_together_are_believed_when_an_operator_says_so(world: World) -> None:
    world.limit = 6
    await world.hand_over()
    await world.start()
    world.driver.life = runs_for_ever
    jobs = await with_jobs(world, 6)
    world.driver.life = good_life
    world.driver.lose_power()
    world.driver.down = False

    async def braked() -> bool:
        return any(entry.event == "mass_death_brake" for entry in await world.ledger.journal(subject="local"))

    await world.until(braked)
    assert {job.status for job in jobs} == {"running"}
    await world.ledger.believe_host("local")
    for job in jobs:
        await world.ended(job)
    assert {(job.status, job.failure_reason) for job in jobs} == {("failed", "runner_system_failure")}


async def test_a_leak_that_does_not_go_is_told_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    async def hangs(_driver: FakeDriver, machine_id: str) -> None:
        tries.append(machine_id)
        raise MachineError("it does not end after SIGKILL")

    async def was_tried_again() -> bool:
        return len(tries) > 2

    monkeypatch.setattr(FakeDriver, "destroy", hangs)
    world.driver.life = never_boots
    image = world.context.resolve_image("demo").files
    await world.driver.create(MachineSpec("fr-stranger00000", Resources(1, 1, 1), image, "g:1", "none"))

    await world.until(was_tried_again)

    entries = await world.ledger.journal(subject="fr-stranger00000")
    assert [entry.event for entry in entries] == ["leak_found"]


async def test_a_machine_that_its_host_starts_again_runs_nothing_and_its_job_is_reported(
    world: World,
) -> None:
    guests: list[Guest] = []

    async def life(guest: Guest) -> None:
        guests.append(guest)
        await runs_for_ever(guest)

    world.driver.life = life
    (job,) = await with_jobs(world, 1)
    world.driver.life = good_life

    assert (await guests[0].booted()).status_code == 410

    ended = await world.ended(job)
    assert (ended.status, ended.failure_reason) == ("failed", "runner_system_failure")
    assert job.handed_out == 1


async def test_a_host_that_hangs_is_silent_from_the_moment_it_was_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = await with_hosts(world, "other")
    world.driver.life = never_boots
    _, job = await world.pipeline()
    machine = await machine_on(world, "local", MachineState.BOOTING)

    look = FakeDriver.list

    async def hangs(driver: FakeDriver) -> Sequence[Sighting]:
        if driver is not world.driver:
            return await look(driver)
        world.ahead_s += sightings.LOST_S + 1
        raise HostUnreachable("no answer in time")

    monkeypatch.setattr(FakeDriver, "list", hangs)
    monkeypatch.setattr(sightings, "LOST_BUSY_S", 1e9)

    async def given_up() -> bool:
        found = await world.ledger.machine(machine.machine_id)
        return found is not None and found.state in {MachineState.FAILED, MachineState.RETIRING}

    await world.until(given_up)
    assert (await world.ended(job)).status == "success"
    assert len(more["other"].created) == 1
    monkeypatch.undo()
    await close(more)
