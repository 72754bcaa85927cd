"""A job that GitLab has handed out and nobody has: found by its `system_id`, where there is an API token."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from firerunner.control.lost import LOOK_UP
from firerunner.fakes.gitlab.model import Job

pytestmark = pytest.mark.anyio

ASK = "/api/v4/jobs/request"


async def _used(rule: Any) -> bool:
    return bool(rule.used)


def retried(world: Any, job: Job) -> list[Job]:
    """The jobs of the same name that came after it."""
    return [each for each in world.gitlab.jobs() if each.name == job.name and each.id > job.id]


async def lose_answer(world: Any) -> Job:
    """GitLab hands the job out, and the connection breaks before the answer."""
    rule = world.gitlab.misbehave(ASK, lose_answer=True, times=1)
    _, job = await world.pipeline()
    await world.until(lambda: _used(rule))
    return job


@pytest.mark.parametrize("policy", ["retry", "cancel"])
async def test_a_job_whose_hand_over_was_lost_is_found_cancelled_and_as_the_pool_says_retried(
    world: Any, policy: str
) -> None:
    await world.crash()
    world.api_token, world.options = world.gitlab.api_token, {"lost_jobs": policy}
    rule = world.gitlab.misbehave(ASK, lose_answer=True, times=1)
    _, job = await world.pipeline()
    await world.start()
    await world.until(lambda: _used(rule))

    await world.gitlab.wait_for_job(job, "canceled", timeout_s=20)
    if policy == "retry":
        await world.until(lambda: _has(retried(world, job)))
        assert (await world.ended(retried(world, job)[0])).status == "success"
    await world.finish()
    assert len(retried(world, job)) == (1 if policy == "retry" else 0)
    await world.check_nothing_left()
    assert await world.ledger.unfinished() == []


async def test_a_job_that_a_crash_between_201_and_commit_has_lost_is_run_again(world: Any) -> None:
    world.api_token = world.gitlab.api_token
    arrived: list[bytes] = []

    async def never(machine_id: str, job: Any, answer: bytes) -> None:
        arrived.append(answer)
        await asyncio.Event().wait()

    world.context.ledger.take = never
    _, job = await world.pipeline()
    await world.until(lambda: _has(arrived))
    await world.crash()
    assert job.status == "running"
    await world.start()

    await world.gitlab.wait_for_job(job, "canceled", timeout_s=20)
    await world.until(lambda: _has(retried(world, job)))
    assert (await world.ended(retried(world, job)[0])).status == "success"
    await world.finish()
    await world.check_nothing_left()


async def test_a_lost_job_of_a_machine_with_a_long_history_is_run_again(world: Any) -> None:
    """An id that is kept over an hour of failed asks has more rows than any reader asks for at once."""
    await world.crash()
    world.api_token = world.gitlab.api_token
    looking = world.gitlab.misbehave(r"/api/v4/runners/\d+/jobs", method="GET", hold=True, times=1)
    lost = world.gitlab.misbehave(ASK, lose_answer=True, times=1)
    _, job = await world.pipeline()
    await world.start()
    await world.until(lambda: _used(lost))
    await world.until(lambda: _used(looking))
    (entry,) = await world.ledger.unfinished()
    for _ in range(300):
        await world.ledger.note("machine", entry.subject, "asked before", {})
    looking.release()

    await world.gitlab.wait_for_job(job, "canceled", timeout_s=20)
    await world.until(lambda: _has(retried(world, job)))
    assert (await world.ended(retried(world, job)[0])).status == "success"


async def test_without_a_token_the_operator_is_told_and_nothing_waits(world: Any) -> None:
    await lose_answer(world)

    async def told() -> bool:
        entries = await world.ledger.last_journal(limit=50)
        return any("there is no api_token" in str(entry.detail) for entry in entries)

    await world.until(told)
    # Its next ask may have brought a job meanwhile, whose machine is being made.
    assert [entry for entry in await world.ledger.unfinished() if entry.event == LOOK_UP] == []


async def test_an_ask_that_brought_nothing_is_settled_after_a_minute(world: Any) -> None:
    await world.crash()
    world.api_token = world.gitlab.api_token
    rule = world.gitlab.misbehave(ASK, lose_answer=True, times=1)
    await world.start()
    await world.until(lambda: _used(rule))
    assert len(await world.until(world.ledger.unfinished)) == 1

    world.ahead_s = 70.0

    async def settled() -> bool:
        return await world.ledger.unfinished() == []

    await world.until(settled)
    _, job = await world.pipeline()
    assert (await world.ended(job)).status == "success"


async def _has(found: list[Any]) -> bool:
    return bool(found)
