"""The promises one by one, in the simulated world: hooks, a bad GitLab, bad hosts, stuck things, cancels."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from firerunner.fakes.gitlab.model import Job
from firerunner.fakes.machines import Guest
from firerunner.intake import Hook
from firerunner.ledger import JournalEntry, MachineState
from tests.sim import timeline
from tests.sim.timeline import timeline as now
from tests.sim.world import Options, World, simulated

pytestmark = pytest.mark.timeout(300)

HOOK = Hook("build", 11, True, ("gitlab",))
Act = Callable[[World], Awaitable[None]]


def seen(folder: Path, kinds: list[str], act: Act, **options: Any) -> tuple[dict[str, Job], World]:
    """Run these jobs while `act` does its harm; nothing may be left, and nothing may have run twice."""
    kept: list[World] = []

    async def scene() -> None:
        async with simulated(folder / "world", Options(5, **options)) as world:
            kept.append(world)
            await world.start()
            world.pipeline(kinds)
            acting = asyncio.create_task(act(world))
            assert await world.all_ended(), await world.states()
            await acting
            world.weather.bad = world.mood.bad = 0.0
            assert await world.finish()
            assert await world.leftovers() == []

    timeline.run(scene())
    (world,) = kept
    chains: dict[str, list[Job]] = {}
    for job in world.gitlab.jobs():
        chains.setdefault(job.name, []).append(job)
    for name, chain in chains.items():
        assert sum(world.lives.ran[job.id] for job in chain) <= 1, name
    return {name: chain[-1] for name, chain in chains.items()}, world


async def nothing(_: World) -> None:
    """No harm."""


async def dropped(_: World) -> None:
    """No hook ever comes."""


async def tenfold(world: World) -> None:
    """Ten times each, before, while and after."""
    for _ in range(20):
        for _ in range(10):
            wake(world)
        await asyncio.sleep(1.0)


async def an_hour_late(world: World) -> None:
    """When all is over."""
    await asyncio.sleep(3600.0)
    wake(world)


async def from_last_week(world: World) -> None:
    """About jobs that are long gone, again and again."""
    for _ in range(60):
        wake(world)
        await asyncio.sleep(0.5)


def wake(world: World) -> None:
    assert world.process is not None
    world.process.controller.wake(HOOK)


@pytest.mark.parametrize("hooks", [dropped, tenfold, an_hour_late, from_last_week])
def test_hooks_only_wake(tmp_path: Path, hooks: Act) -> None:
    jobs, world = seen(tmp_path, ["ok"] * 4 + ["fails"] * 2, hooks)

    assert [job.status.value for job in jobs.values()] == ["success"] * 4 + ["failed"] * 2
    assert sum(world.lives.ran.values()) == 6


def test_a_gitlab_that_answers_one_call_in_three_wrongly(tmp_path: Path) -> None:
    jobs, world = seen(tmp_path, ["ok"] * 6 + ["long"] * 3 + ["fails"], nothing, bad_gitlab=0.3, limit=10)

    assert {job.status.value for name, job in jobs.items() if not name.startswith("fails")} == {"success"}
    assert [len(job.trace) for job in jobs.values() if job.status == "success"] == [
        world.lives.told[job.id] for job in jobs.values() if job.status == "success"
    ]
    assert world.weather.disrespected == 0
    assert min(world.weather.done[kind] for kind in ("limited", "broken", "page", "lost", "cut")) > 0


def test_a_limit_that_gitlab_has_announced_outlives_the_process(tmp_path: Path) -> None:
    async def limited_and_killed(world: World) -> None:
        world.weather.only = "limited"
        while not world.weather.limited_until:
            await asyncio.sleep(0.1)
        world.weather.only = ""
        for _ in range(3):
            await world.kill()
            await world.start()
            await asyncio.sleep(0.1)

    jobs, world = seen(tmp_path, ["ok"] * 3, limited_and_killed)

    assert {job.status.value for job in jobs.values()} == {"success"}
    assert world.weather.disrespected == 0


def test_a_gitlab_that_is_away_for_an_hour_while_jobs_run(tmp_path: Path) -> None:
    async def away(world: World) -> None:
        world.project.timeout_s = 3 * 3600
        while not all(job.status == "running" and job.trace for job in world.gitlab.jobs()):
            await asyncio.sleep(0.5)
        world.weather.away = True
        await asyncio.sleep(3600.0)
        world.weather.away = False

    jobs, world = seen(tmp_path, ["long"] * 4, away, pool={"max_job_time": 4 * 3600.0})

    assert {job.status.value for job in jobs.values()} == {"success"}
    assert all(len(job.trace) == world.lives.told[job.id] for job in jobs.values())
    assert all(job.handed_out == 1 for job in jobs.values())


async def dies_with_all(world: World) -> None:
    await _running(world)
    world.host.lose_power()
    await asyncio.sleep(30.0)
    world.host.down = False


async def is_away(world: World) -> None:
    """Its machines run on."""
    await _running(world)
    world.host.down = True
    await asyncio.sleep(60.0)
    world.host.down = False


async def lists_nothing(world: World) -> None:
    await _running(world)
    world.host.blind = True
    await asyncio.sleep(60.0)
    world.host.blind = False


async def is_full(world: World) -> None:
    world.mood.full = True
    await asyncio.sleep(60.0)
    world.mood.full = False


async def _running(world: World) -> None:
    while not all(job.status == "running" and job.trace for job in world.gitlab.jobs()):
        await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("harm", "ends"),
    [
        (dies_with_all, {"failed"}),
        (is_away, {"success"}),
        (lists_nothing, {"success"}),
        (is_full, {"success"}),
    ],
)
def test_a_host_misbehaves(tmp_path: Path, harm: Act, ends: set[str]) -> None:
    jobs, _ = seen(tmp_path, ["long"] * 6, harm, limit=8)

    assert {job.status.value for job in jobs.values()} == ends
    assert {job.failure_reason for job in jobs.values()} <= {None, "runner_system_failure"}


@pytest.mark.parametrize("count", [1, 3])
def test_few_jobs_outlive_a_host_that_lists_nothing_too(tmp_path: Path, count: int) -> None:
    jobs, _ = seen(tmp_path, ["long"] * count, lists_nothing)

    assert {job.status.value for job in jobs.values()} == {"success"}


def test_a_host_that_loses_calls_and_answers(tmp_path: Path) -> None:
    jobs, world = seen(tmp_path, ["ok"] * 10, nothing, bad_host=0.1, limit=8)

    assert {job.status.value for job in jobs.values()} <= {"success", "failed"}
    assert {job.failure_reason for job in jobs.values()} <= {None, "runner_system_failure"}
    assert sum(job.status == "success" for job in jobs.values()) >= 8
    assert world.mood.done["lost"] + world.mood.done["fails"] + world.mood.done["hangs"] > 0


# Stuck things: where a machine stops, and what the operator reads in the journal.


async def never_boots(guest: Guest) -> None:
    await asyncio.Event().wait()


async def boots_and_hangs(guest: Guest) -> None:
    await guest.booted()
    await asyncio.Event().wait()


async def asks_and_says_nothing(guest: Guest) -> None:
    await guest.booted()
    while (await guest.ask()).status_code != 201:
        await asyncio.sleep(1.0)
    await asyncio.Event().wait()


async def runs_and_falls_silent(guest: Guest) -> None:
    await guest.booted()
    while (await guest.ask()).status_code != 201:
        await asyncio.sleep(1.0)
    await guest.update("running")
    await asyncio.Event().wait()


async def never_ends(guest: Guest) -> None:
    await runs_until(guest, lambda: False)


async def ends_and_stays(guest: Guest) -> None:
    """Its job has ended, and its guest does not go."""
    await guest.booted()
    while (await guest.ask()).status_code != 201:
        await asyncio.sleep(1.0)
    await guest.update("running")
    await guest.update("success")
    await asyncio.Event().wait()


async def runs_until(guest: Guest, done: Callable[[], bool]) -> None:
    await guest.booted()
    while (await guest.ask()).status_code != 201:
        await asyncio.sleep(1.0)
    while not done():
        await guest.update("running")
        await asyncio.sleep(30.0)


@pytest.mark.parametrize(
    ("life", "end", "reason"),
    [
        (never_boots, "failed", "the guest did not call the gate within 90 s"),
        (boots_and_hangs, "failed", "its runner did not ask for the job within 120 s"),
        (asks_and_says_nothing, "failed", "its runner said nothing about the job within 120 s"),
        (runs_and_falls_silent, "failed", "its runner has said nothing for 300 s"),
        (never_ends, "failed", "the job ran longer than 600 s and its runner did not end it"),
        (ends_and_stays, "success", "its job ended"),
    ],
)
def test_a_stuck_machine_meets_its_deadline_and_the_journal_says_which(
    tmp_path: Path, life: Callable[[Guest], Awaitable[None]], end: str, reason: str
) -> None:
    told: list[JournalEntry] = []

    async def act(world: World) -> None:
        while not all(job.finished for job in world.gitlab.jobs()):
            await asyncio.sleep(5.0)
        await asyncio.sleep(60.0)
        assert world.process is not None
        told.extend(await world.process.ledger.last_journal(limit=1000))

    async def scene() -> tuple[list[Job], float]:
        async with simulated(tmp_path / "world", Options(5)) as world:
            world.host.life = life
            await world.start()
            jobs = world.pipeline(["stuck"])
            acting = asyncio.create_task(act(world))
            assert await world.all_ended()
            await acting
            assert await world.finish()
            assert await world.leftovers() == []
            return jobs, now().now

    jobs, _ = timeline.run(scene())

    assert jobs[0].status.value == end
    assert any(reason in str(entry.detail) for entry in told), [entry.detail for entry in told]


def test_a_delete_that_never_finishes_holds_its_room_and_nothing_else(tmp_path: Path) -> None:
    async def scene() -> None:
        async with simulated(tmp_path / "world", Options(5, limit=4)) as world:
            process = await world.start()
            world.mood.keeps = True
            jobs = world.pipeline(["ok"])
            assert await world.all_ended()
            await asyncio.sleep(120.0)
            (held,) = [each for each in await process.ledger.machines() if each.job_id is not None]
            assert (held.state, held.room_held) == (MachineState.RETIRING, True)
            world.mood.keeps = False
            more = world.pipeline(["ok"] * 3)
            assert await world.all_ended()
            assert {job.status.value for job in jobs + more} == {"success"}
            assert await world.finish()
            assert await world.leftovers() == []

    timeline.run(scene())


@pytest.mark.parametrize("after_s", [0.1, 0.6, 1.5, 3.0, 4.0, 5.0, 7.0, 12.0, 20.0])
def test_a_cancel_ends_the_job_in_every_state(tmp_path: Path, after_s: float) -> None:
    async def cancel(world: World) -> None:
        while not any(job.status == "running" for job in world.gitlab.jobs()):
            await asyncio.sleep(0.05)
        await asyncio.sleep(after_s)
        for job in world.gitlab.jobs():
            world.gitlab.cancel(job)

    jobs, _ = seen(tmp_path, ["long"] * 2, cancel)

    assert {job.status.value for job in jobs.values()} <= {"canceled", "success"}
