"""What a pool's settings change: each one is set and seen to act."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from firerunner.fakes.machines import FakeDriver, Guest, start
from firerunner.intake import Hook
from firerunner.ledger import JobRecord, JobState, MachineRecord, MachineState
from firerunner.machines.spec import Destination, Domain, Resources

from .conftest import World

pytestmark = pytest.mark.anyio

LONG_S = 300.0
QUIET_S = 1.5
"""Some of the default test pool's intervals."""


async def restarted(world: World, **options: object) -> None:
    await world.finish()
    world.options = options
    await world.start()


async def waiting(world: World) -> list[MachineRecord]:
    return [each for each in await world.ledger.machines() if each.state is MachineState.WAITING]


async def test_warm_machines_wait_before_there_is_a_job_and_are_made_again(world: World) -> None:
    await restarted(world, warm=2)
    warm = await world.until(lambda: _exactly(world, 2))

    _, job = await world.pipeline()
    await world.ended(job)

    used = {record.machine_id for record in await world.jobs()}
    assert used <= {machine.machine_id for machine in warm}
    again = await world.until(lambda: _exactly(world, 2))
    assert used.isdisjoint({machine.machine_id for machine in again})


async def _exactly(world: World, count: int) -> list[MachineRecord]:
    machines = await waiting(world)
    return machines if len(machines) == count else []


async def test_what_has_waited_its_time_is_replaced(world: World) -> None:
    await restarted(world, warm={"count": 1, "max_age": 60.0})
    (first,) = await world.until(lambda: _exactly(world, 1))

    world.ahead_s += 61.0

    async def another() -> list[MachineRecord]:
        return [each for each in await waiting(world) if each.machine_id != first.machine_id]

    await world.until(another)


async def test_a_machine_of_older_runner_options_gets_no_job(world: World) -> None:
    await restarted(world, warm=1)
    (first,) = await world.until(lambda: _exactly(world, 1))

    changed = {"runner_config": SecretStr("environment = ['A=1']")}
    world.controller.set_pools({"small": world.context.pools["small"].model_copy(update=changed)})
    _, job = await world.pipeline()
    await world.ended(job)

    assert first.machine_id not in {record.machine_id for record in await world.jobs()}


@pytest.mark.parametrize(
    ("changed", "is_used"), [({}, True), ({"runner_config": SecretStr("environment = ['A=1']")}, False)]
)
async def test_a_machine_of_older_runner_options_gets_no_job_after_a_restart_either(
    world: World, changed: dict[str, object], *, is_used: bool
) -> None:
    await restarted(world, warm=1)
    (first,) = await world.until(lambda: _exactly(world, 1))

    await world.hand_over()
    world.options = {"warm": 1} | changed
    await world.start()
    _, job = await world.pipeline()
    await world.ended(job)

    used = {record.machine_id for record in await world.jobs()}
    assert used
    assert (first.machine_id in used) is is_used


async def test_no_more_machines_than_the_limit(world: World) -> None:
    go = asyncio.Event()

    async def hold(guest: Guest) -> None:
        await start(guest)
        await go.wait()
        await guest.update("success")
        await guest.ended()

    world.driver.life = hold
    await restarted(world, limit=2)
    jobs = [(await world.pipeline())[1] for _ in range(4)]
    await world.until(lambda: _running(world, 2))
    await asyncio.sleep(QUIET_S)
    at_once = len(await world.driver.list())
    go.set()
    for job in jobs:
        assert (await world.ended(job)).status == "success"

    assert at_once == 2


async def _running(world: World, count: int) -> bool:
    return sum(job.status == "running" for job in world.gitlab.jobs()) == count


async def test_between_asks_the_pool_waits_for_its_interval_or_a_hook(world: World) -> None:
    await restarted(world, check_interval=LONG_S)
    await world.until(lambda: _idle(world))
    _, job = await world.pipeline()
    await asyncio.sleep(QUIET_S)
    before = job.status

    world.controller.wake(Hook("build", world.project.id, means_work=True, gitlab=("gitlab",)))

    assert (await world.ended(job)).status == "success"
    assert before == "pending"


async def _idle(world: World) -> bool:
    """True once an ask has found nothing since the last start."""
    machines = await world.ledger.machines()
    return bool(machines) and not any(each.room_held or each.ask_started_at for each in machines)


async def test_hooks_of_other_projects_do_not_wake_the_pool(world: World) -> None:
    await restarted(world, check_interval=LONG_S, projects=[world.project.id])
    await world.until(lambda: _idle(world))
    _, job = await world.pipeline()
    world.controller.wake(Hook("build", world.project.id + 1, means_work=True, gitlab=("gitlab",)))
    await asyncio.sleep(QUIET_S)
    before = job.status

    world.controller.wake(Hook("build", world.project.id, means_work=True, gitlab=("gitlab",)))

    assert (await world.ended(job)).status == "success"
    assert before == "pending"


async def test_a_guest_that_does_not_boot_in_time_is_given_up_and_the_job_gets_another(world: World) -> None:
    async def never(_guest: Guest) -> None:
        await asyncio.Event().wait()

    good, world.driver.life = world.driver.life, never
    await restarted(world, boot_timeout=60)
    _, job = await world.pipeline()
    (hung,) = [each.machine_id for each in await world.until(lambda: _booting(world))]
    world.ahead_s += 50
    await asyncio.sleep(QUIET_S)
    early = list(world.driver.destroyed)
    world.driver.life = good

    world.ahead_s += 20

    assert (await world.ended(job)).status == "success"
    assert hung not in early
    assert hung in world.driver.destroyed


async def _booting(world: World) -> list[MachineRecord]:
    return [each for each in await world.ledger.machines() if each.state is MachineState.BOOTING]


async def test_no_job_runs_longer_than_the_pool_says(world: World) -> None:
    async def hang(guest: Guest) -> None:
        await start(guest)
        while True:
            await guest.say(".")
            await asyncio.sleep(QUIET_S / 10)

    world.driver.life = hang
    await restarted(world, max_job_time=200)
    _, job = await world.pipeline()
    started = await world.until(lambda: _started(world))
    world.ahead_s += 190
    await asyncio.sleep(QUIET_S)
    early = job.status

    world.ahead_s += 100

    await world.ended(job)
    assert early == "running"
    assert (job.status, job.failure_reason) == ("failed", "runner_system_failure")
    await world.until(lambda: _destroyed(world, started[0].machine_id))


async def _destroyed(world: World, machine_id: str | None) -> bool:
    return machine_id in world.driver.destroyed


async def _started(world: World) -> list[JobRecord]:
    return [job for job in await world.jobs() if job.state is JobState.RUNNING]


async def test_machines_are_made_on_the_pools_hosts_only(world: World) -> None:
    other = FakeDriver()
    world.drivers["other"] = other
    await restarted(world, hosts=["other"])
    _, job = await world.pipeline()

    assert (await world.ended(job)).status == "success"
    assert (world.driver.created, len(other.created)) == ([], 1)
    await world.finish()
    await other.aclose()


async def test_size_image_and_egress_reach_the_driver(world: World) -> None:
    seen: list[Guest] = []

    async def look(guest: Guest) -> None:
        seen.append(guest)
        await start(guest)
        await guest.update("success")
        await guest.ended()

    world.driver.life = look
    await restarted(
        world,
        vcpu=3,
        memory_mib=700,
        disk_mib=900,
        egress=["mirror.test:3142", "*.example.com:443"],
        proxy={"url": "http://proxy.test:3128"},
    )
    _, job = await world.pipeline()
    await world.ended(job)

    spec = seen[0].spec
    assert spec.resources == Resources(3, 700, 900)
    assert spec.image.digest == world.context.resolve_image("demo").files.digest
    assert spec.egress == (
        Destination("mirror.test", 3142),
        Domain("example.com", 443),
        Destination("proxy.test", 3128),
    )


@pytest.mark.parametrize(("pool", "restore"), [({}, True), ({"start": "cold"}, False)], ids=str)
async def test_machines_start_as_the_pool_says(world: World, pool: dict[str, str], restore: bool) -> None:
    seen: list[Guest] = []

    async def look(guest: Guest) -> None:
        seen.append(guest)
        await start(guest)
        await guest.update("success")
        await guest.ended()

    world.driver.life = look
    await restarted(world, **pool)
    _, job = await world.pipeline()
    await world.ended(job)

    (created,) = [
        entry.detail["outcome"]
        for entry in await world.ledger.journal(limit=1000)
        if entry.detail and str(entry.detail.get("outcome", "")).startswith("created")
    ]
    assert seen[0].spec.restore is restore
    assert created == "created cold"  # as this driver says


async def test_a_pool_that_no_host_could_serve_takes_no_job_and_says_why(world: World) -> None:
    world.driver.never = "egress 127.0.0.1 is an address that means something else inside a machine"
    await restarted(world)
    _, job = await world.pipeline()
    await asyncio.sleep(QUIET_S)
    waiting_for, reason = job.status, world.controller.shows.reasons().get("small", "")
    able = world.drivers["other"] = FakeDriver()
    await restarted(world)

    assert (await world.ended(job)).status == "success"
    assert (waiting_for, "inside a machine" in reason) == ("pending", True)
    assert (world.driver.created, len(able.created)) == ([], 1)
    await world.finish()
    await able.aclose()


async def test_a_host_that_waits_for_a_restart_is_said_and_ends_nothing(world: World) -> None:
    await restarted(world)
    moved = world.context.pools["small"].model_copy(update={"hosts": ("new",)})
    world.controller.set_pools({"small": moved})
    _, job = await world.pipeline()
    await asyncio.sleep(QUIET_S)
    waiting_for, reason = job.status, world.controller.shows.reasons().get("small", "")

    world.controller.set_pools({"small": moved.model_copy(update={"hosts": ()})})

    assert (await world.ended(job)).status == "success"
    assert (waiting_for, "restart the service" in reason) == ("pending", True)
