"""Jobs through the whole of FireRunner, with coroutines as machines, and what can go wrong on the way."""

from __future__ import annotations

import asyncio

import pytest

from firerunner.control import controller, deadlines, keeping
from firerunner.errors import LedgerError
from firerunner.fakes.machines import Guest, good_life, start
from firerunner.ledger import HostUse, JobRecord, JobState, MachineRecord, MachineState, NewJob
from firerunner.machines.spec import MachineSpec, Resources
from tests.scene.paper import paper_image

from .conftest import World

pytestmark = pytest.mark.anyio


class Held:
    """A life that stops in mid-job until it is let go, and then ends well."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, guest: Guest) -> None:
        await start(guest)
        self.running.set()
        await self.go_on.wait()
        await guest.say("going on\n")
        await guest.update("success")
        await guest.ended()


async def test_a_job_runs_and_nothing_is_left(world: World) -> None:
    _, job = await world.pipeline()

    await world.ended(job)
    await world.finish()

    assert job.status == "success"
    assert world.gitlab.trace(job).startswith("hello from fr-")
    await world.check_nothing_left()


async def test_many_jobs_never_exceed_the_limit(world: World) -> None:
    pipelines = [await world.pipeline() for _ in range(12)]

    for _, job in pipelines:
        await world.ended(job)
    await world.finish()

    assert {job.status for _, job in pipelines} == {"success"}
    assert len(set(world.driver.created)) == 12
    await world.check_nothing_left()


async def test_a_machine_that_dies_in_mid_job_is_reported_and_the_retry_succeeds(world: World) -> None:
    running = asyncio.Event()

    async def stays(guest: Guest) -> None:
        await start(guest)
        await guest.say("working\n")
        running.set()
        await asyncio.Event().wait()

    world.driver.life = stays
    pipeline, job = await world.pipeline()
    await running.wait()
    world.driver.life = good_life
    world.driver.kill(world.driver.created[0])

    await world.ended(job)
    retried = await world.gitlab.wait_for(lambda: _other(world.gitlab.job("one", pipeline), job))
    await world.ended(retried)
    await world.finish()

    assert (job.status, job.failure_reason) == ("failed", "runner_system_failure")
    assert "the machine died: VMM killed by signal 9" in world.gitlab.trace(job)
    assert retried.status == "success"
    await world.check_nothing_left()


async def test_a_machine_that_dies_during_boot_is_replaced_and_the_author_sees_nothing(world: World) -> None:
    async def dies(guest: Guest) -> None:
        world.driver.life = good_life

    world.driver.life = dies
    _, job = await world.pipeline()

    await world.ended(job)
    await world.finish()

    assert job.status == "success"
    assert len(world.driver.created) == 2
    assert [record.attempts for record in await world.jobs()] == [2]
    await world.check_nothing_left()


async def test_a_job_for_which_no_machine_boots_is_given_back(world: World) -> None:
    async def dies(guest: Guest) -> None:
        pass

    world.driver.life = dies
    _, job = await world.pipeline()

    await world.ended(job)

    assert (job.status, job.failure_reason) == ("failed", "runner_system_failure")
    assert len(world.driver.created) >= 3


async def test_a_guest_that_ends_without_a_final_word_is_reported(world: World) -> None:
    async def silent(guest: Guest) -> None:
        await start(guest)
        await guest.ended(1)

    world.driver.life = silent
    _, job = await world.pipeline()

    await world.ended(job)

    assert (job.status, job.failure_reason) == ("failed", "runner_system_failure")


async def test_a_job_cancelled_while_it_runs_ends_canceled(world: World) -> None:
    running = asyncio.Event()

    async def polls(guest: Guest) -> None:
        await start(guest)
        running.set()
        while (await guest.say("tick\n")).headers["Job-Status"] != "canceling":
            await asyncio.sleep(0.05)
        await guest.update("failed", failure_reason="script_failure")
        await guest.ended()

    world.driver.life = polls
    _, job = await world.pipeline()
    await running.wait()
    world.gitlab.cancel(job)

    await world.ended(job)
    await world.finish()

    assert job.status == "canceled"
    assert [record.gitlab_status for record in await world.jobs()] == ["canceled"]
    await world.check_nothing_left()


async def test_a_job_cancelled_by_force_during_boot_is_not_delivered(world: World) -> None:
    booting, go_on = asyncio.Event(), asyncio.Event()

    async def slow(guest: Guest) -> None:
        booting.set()
        await go_on.wait()
        await good_life(guest)

    world.driver.life = slow
    _, job = await world.pipeline()
    await booting.wait()
    world.gitlab.cancel(job, force=True)
    go_on.set()

    await world.ended(job)
    await world.finish()

    assert job.status == "canceled"
    assert world.gitlab.trace(job) == ""
    await world.check_nothing_left()


async def test_a_runner_that_lets_its_job_go_and_asks_again_is_found_out(world: World) -> None:
    async def drops(guest: Guest) -> None:
        await start(guest)
        while True:
            await guest.ask()
            await asyncio.sleep(0.05)

    world.driver.life = drops
    _, job = await world.pipeline()

    await world.ended(job)

    assert (job.status, job.failure_reason) == ("failed", "runner_system_failure")
    assert "let the job go" in world.gitlab.trace(job)


async def test_a_cancel_that_the_runner_does_not_see_ends_its_machine(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "KEEP_EVERY_S", 0.1)
    monkeypatch.setattr(keeping, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(deadlines, "AFTER_CANCEL_S", 0.1)
    running = asyncio.Event()

    async def hangs(guest: Guest) -> None:
        await start(guest)
        running.set()
        await asyncio.Event().wait()

    world.driver.life = hangs
    _, job = await world.pipeline()
    await running.wait()
    world.gitlab.cancel(job)
    world.gitlab.cancel(job, force=True)
    await world.crash()
    await world.start()

    await world.ended(job)
    await world.finish()

    assert job.status == "canceled"
    await world.check_nothing_left()


async def test_a_crash_in_mid_job_is_survived_and_the_machine_adopted(world: World) -> None:
    held = world.driver.life = Held()
    _, job = await world.pipeline()
    await held.running.wait()
    await world.crash()
    await world.start()
    held.go_on.set()

    await world.ended(job)
    await world.finish()

    assert job.status == "success"
    assert len(world.driver.created) == 1
    await world.check_nothing_left()


async def test_handing_over_leaves_the_job_running(world: World) -> None:
    held = world.driver.life = Held()
    _, job = await world.pipeline()
    await held.running.wait()
    await world.hand_over()
    states = [machine.state for machine in await world.ledger.machines() if machine.job_id]
    await world.start()
    held.go_on.set()
    await world.ended(job)
    await world.finish()

    assert states == [MachineState.BUSY]
    assert job.status == "success"
    await world.check_nothing_left()


async def test_finishing_waits_for_the_running_job(world: World) -> None:
    held = world.driver.life = Held()
    _, job = await world.pipeline()
    await held.running.wait()
    finishing = asyncio.create_task(world.finish())
    _, late = await world.pipeline()
    held.go_on.set()
    await finishing

    assert job.status == "success"
    assert late.status == "pending"
    await world.check_nothing_left()


async def test_a_broken_answer_is_kept_and_its_job_failed_in_gitlab(world: World) -> None:
    runner = world.gitlab.runner(world.token)
    runner.paused = True
    _, job = await world.pipeline()
    world.gitlab.misbehave("/api/v4/jobs/request", cut_after_bytes=400, times=1)
    runner.paused = False

    await world.ended(job)

    assert (job.status, job.failure_reason) == ("failed", "runner_system_failure")
    assert any(entry.event == "answer_unreadable" for entry in await world.ledger.last_journal(limit=1000))


async def test_a_refused_token_stops_the_pool_and_says_so(world: World) -> None:
    world.gitlab.delete_runner(world.token)

    async def refused() -> str:
        return "refused the runner token" in world.controller.shows.reasons().get("small", "")

    assert await world.until(refused)


async def test_a_gitlab_that_answers_html_loses_nothing(world: World) -> None:
    world.gitlab.misbehave("/api/v4/jobs/request", status=502, body="<html>Bad gateway</html>", times=2)
    _, job = await world.pipeline()

    await world.ended(job)
    await world.finish()

    assert job.status == "success"
    await world.check_nothing_left()


async def test_a_host_that_cannot_is_left_alone_and_the_job_given_another_try(world: World) -> None:
    world.driver.refuse = "no /dev/kvm today"
    _, job = await world.pipeline()

    async def has_failed() -> bool:
        return any(machine.reason == "its host could not make it" for machine in await world.machines())

    await world.until(has_failed)
    world.driver.refuse = ""

    async def is_homeless_or_assigned() -> bool:
        return [record.state for record in await world.jobs()] == [JobState.ASSIGNED]

    assert await world.until(is_homeless_or_assigned)
    assert job.status == "running"


async def test_a_machine_nobody_knows_is_removed(world: World) -> None:
    async def idles(guest: Guest) -> None:
        await asyncio.Event().wait()

    world.driver.life = idles
    await world.driver.create(
        MachineSpec("fr-stranger0000", Resources(1, 256, 1024), paper_image().files, world.gate_address, "x")
    )

    async def removed() -> bool:
        return "fr-stranger0000" in world.driver.destroyed

    assert await world.until(removed)


def _other(candidate: object, than: object) -> object:
    return candidate if candidate is not than else None


async def test_a_take_that_the_database_refuses_once_gives_each_job_its_own_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, refusals = world.context.ledger, [LedgerError("disk full")]
    take = ledger.take

    async def stumbling(machine_id: str, job: NewJob, answer: bytes | None = None) -> JobRecord:
        if refusals:
            raise refusals.pop()
        return await take(machine_id, job, answer)

    monkeypatch.setattr(ledger, "take", stumbling)
    jobs = [(await world.pipeline())[1] for _ in range(2)]

    for job in jobs:
        await world.ended(job)
    await world.finish()

    assert refusals == []
    assert {job.status for job in jobs} == {"success"}
    await world.check_nothing_left()


async def test_a_launch_begins_with_the_write_that_takes_the_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, steps = world.context.ledger, list[str]()
    take, begin_launch = ledger.take, ledger.begin_launch

    async def noted_take(machine_id: str, job: NewJob, answer: bytes | None = None) -> JobRecord:
        steps.append("take" if answer else "take without the answer")
        taken = await take(machine_id, job, answer)
        steps.append("taken")
        return taken

    async def noted_launch(machine_id: str, credential_hash: str, baked: str) -> tuple[MachineRecord, int]:
        steps.append("launch")
        return await begin_launch(machine_id, credential_hash, baked)

    monkeypatch.setattr(ledger, "take", noted_take)
    monkeypatch.setattr(ledger, "begin_launch", noted_launch)
    _, job = await world.pipeline()
    await world.ended(job)

    assert steps == ["take", "launch", "taken"]


async def test_a_host_that_may_get_no_machine_since_the_ask_gets_none(world: World) -> None:
    """GitLab held the ask open meanwhile. With no other host, its job waits for this one."""
    asking = world.gitlab.misbehave("/api/v4/jobs/request", hold=True, times=1)
    _, job = await world.pipeline()

    async def asked() -> bool:
        return asking.used > 0

    await world.until(asked)
    await world.ledger.use_host("local", HostUse.CORDONED)

    async def heeded() -> bool:
        return "local" in world.context.host_orders

    await world.until(heeded)
    asking.release()
    await world.gitlab.wait_for_job(job, "running")
    await asyncio.sleep(1)  # what it has decided by then shows
    assert world.driver.created == []

    await world.ledger.use_host("local", HostUse.NORMAL)
    await world.ended(job)
    assert job.status == "success"


async def test_an_observer_that_stumbles_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, refusals = world.context.ledger, [LedgerError("locked"), LedgerError("locked")]
    jobs = ledger.jobs

    async def stumbling(*arguments: object) -> list[JobRecord]:
        if refusals:
            raise refusals.pop()
        return await jobs(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger, "jobs", stumbling)
    _, job = await world.pipeline()

    await world.ended(job)
    await world.finish()

    assert job.status == "success"


async def test_a_homeless_job_that_is_cancelled_needs_no_machine_any_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "KEEP_EVERY_S", 0.1)
    monkeypatch.setattr(keeping, "LOOK_EVERY_S", 0.1)

    async def dies(guest: Guest) -> None:
        world.driver.refuse = "the host is away"

    world.driver.life = dies
    _, job = await world.pipeline()

    async def is_homeless() -> bool:
        machines = await world.machines()
        return bool(machines) and any(m.state is MachineState.GONE and m.job_id for m in machines)

    await world.until(is_homeless)
    world.gitlab.cancel(job)
    world.gitlab.cancel(job, force=True)
    await world.ended(job)
    world.driver.refuse = ""
    await world.finish()

    assert job.status == "canceled"
    assert len(await world.machines()) < 8
    await world.check_nothing_left()


async def test_handing_over_does_not_wait_for_a_homeless_job(world: World) -> None:
    async def dies(guest: Guest) -> None:
        world.driver.refuse = "the host is away"

    world.driver.life = dies
    _, job = await world.pipeline()

    async def has_died() -> bool:
        return any(m.state is MachineState.GONE and m.job_id for m in await world.machines())

    await world.until(has_died)
    await world.hand_over()
    world.driver.refuse, world.driver.life = "", good_life
    await world.start()

    await world.ended(job)
    assert job.status == "success"


async def test_a_record_that_gitlab_does_not_delete_holds_no_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "RECORDS_S", 0.1)
    world.gitlab.misbehave("/api/v4/runners/managers", method="DELETE", status=405)
    jobs = [(await world.pipeline())[1] for _ in range(6)]

    for job in jobs:
        await world.ended(job)
    await world.finish()

    assert {job.status for job in jobs} == {"success"}
    assert await world.driver.list() == []


async def test_machines_that_are_seen_dead_are_believed_however_many(world: World) -> None:
    world.limit = 6
    await world.hand_over()
    await world.start()
    world.driver.life = Held()
    jobs = [(await world.pipeline())[1] for _ in range(6)]
    for job in jobs:
        await world.gitlab.wait_for_job(job, "running")

    async def all_busy() -> bool:
        return [m.state for m in await world.ledger.machines()].count(MachineState.BUSY) == 6

    await world.until(all_busy)
    world.driver.life = good_life
    for machine_id in list(world.driver.created):
        world.driver.kill(machine_id)

    for job in jobs:
        await world.ended(job)
    assert {(job.status, job.failure_reason) for job in jobs} == {("failed", "runner_system_failure")}


async def test_an_answer_that_no_database_takes_stops_nothing(world: World) -> None:
    await world.hand_over()
    await world.ledger.reserve("fr-hugenumber00", "small", "local", Resources(1, 256, 1024), "0" * 64)
    answer = b'{"id": 99999999999999999999999, "token": "t", "job_info": {"name": "x", "project_id": 1}}'
    await world.ledger.keep_answer("fr-hugenumber00", answer)

    await world.start()
    _, job = await world.pipeline()

    await world.ended(job)
    await world.finish()
    assert job.status == "success"
    assert await world.ledger.unread_answers() == []


async def test_a_proxys_page_is_not_taken_for_gitlabs_word(world: World) -> None:
    world.gitlab.misbehave(
        r"/api/v4/jobs/\d+",
        method="PUT",
        status=403,
        body="<html>Forbidden by the proxy</html>",
        headers={"Content-Type": "text/html"},
        times=2,
    )
    _, job = await world.pipeline()

    await world.ended(job)
    await world.finish()

    assert job.status == "success"
    await world.check_nothing_left()


async def test_a_cancel_that_a_wedged_runner_does_not_carry_out_is_carried_out_by_us(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("KEEP_EVERY_S", 0.1), ("LOOK_EVERY_S", 0.1), ("CANCEL_S", 0.3)):
        monkeypatch.setattr(keeping, name, seconds)
    held = world.driver.life = Held()
    _, job = await world.pipeline()
    await held.running.wait()
    world.gitlab.cancel(job)

    await world.ended(job)
    await world.finish()

    assert job.status == "canceled"
    await world.check_nothing_left()
