"""Pools come, change and go while the controller runs; a second GitLab gives jobs of the same numbers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from firerunner.fakes.gitlab import FakeGitLab, too_many_requests
from firerunner.fakes.machines import Guest, start
from firerunner.gitlab import (
    Answer,
    GitLabCalls,
    JobClient,
    ManagerRemoval,
    RunnerClient,
    RunnersClient,
    new_http,
)
from firerunner.intake import Hook
from firerunner.ledger import JobState, MachineState
from firerunner.machines.spec import Resources

from .conftest import CI, World

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[FakeGitLab]:
    async with FakeGitLab(tmp_path / "other") as gitlab:
        yield gitlab


async def test_a_rotated_token_is_used_at_once_after_a_refusal(world: World) -> None:
    world.gitlab.delete_runner(world.token)
    await world.until(lambda: _reason(world, "refused"))
    _, job = await world.pipeline()

    token = world.gitlab.add_runner(["small"], run_untagged=True)
    pool = world.context.pools["small"].model_copy(update={"runner_token": SecretStr(token)})
    world.controller.set_pools({"small": pool})

    assert (await world.ended(job)).status == "success"


async def test_a_limit_told_to_the_old_token_does_not_hold_for_a_new_one(world: World) -> None:
    world.gitlab.misbehave(too_many_requests("/api/v4/jobs/request", 600, times=1))
    await world.until(lambda: _reason(world, "next try in"))
    _, job = await world.pipeline()

    token = world.gitlab.add_runner(["small"], run_untagged=True)
    pool = world.context.pools["small"].model_copy(update={"runner_token": SecretStr(token)})
    world.controller.set_pools({"small": pool})

    assert (await world.ended(job)).status == "success"


async def test_a_limit_is_kept_over_a_restart_for_the_token_that_it_was_told_to(world: World) -> None:
    world.gitlab.misbehave(too_many_requests("/api/v4/jobs/request", 600, times=1))
    await world.until(lambda: _reason(world, "next try in"))
    await world.hand_over()
    await world.start()
    await world.until(lambda: _reason(world, "not to be asked"))
    await world.hand_over()
    _, job = await world.pipeline()

    world.token = world.gitlab.add_runner(["small"], run_untagged=True)
    await world.start()

    assert (await world.ended(job)).status == "success"


async def test_a_withdrawn_pool_takes_no_more_jobs_and_ends_what_it_has(world: World) -> None:
    let_go = asyncio.Event()

    async def stays(guest: Guest) -> None:
        await start(guest)
        await let_go.wait()
        await guest.update("success")
        await guest.ended()

    world.driver.life = stays
    _, job = await world.pipeline()
    await world.until(lambda: _running(world))

    world.controller.set_pools({})
    let_go.set()

    assert (await world.ended(job)).status == "success"
    await world.until(lambda: _gone(world))
    asks = len(world.gitlab.calls("POST", "/jobs/request"))
    _, second = await world.pipeline()
    world.controller.wake(Hook("build", 1, means_work=True, gitlab=("gitlab",)))
    await asyncio.sleep(1.0)  # two check intervals
    assert second.status == "pending"
    assert len(world.gitlab.calls("POST", "/jobs/request")) == asks
    assert world.controller.shows.reasons() == {}
    world.controller.set_pools({"small": world.context.pools["small"]})
    assert (await world.ended(second)).status == "success"
    await world.finish()
    await world.check_nothing_left()


async def test_two_gitlabs_with_jobs_of_the_same_number(world: World, other: FakeGitLab) -> None:
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(new_http())
        project = await other.add_project("demo/app", {".gitlab-ci.yml": CI})
        calls = {
            "gitlab": world.context.gitlab("gitlab"),
            "other": GitLabCalls(
                asks=RunnerClient(other.url, http),
                jobs=JobClient(other.url, http),
                runners=RunnersClient(other.url, http),
            ),
        }
        world.context.gitlab = calls.__getitem__
        world.job_clients["other"] = calls["other"].jobs
        token = SecretStr(other.add_runner(["small"], run_untagged=True))
        pools = {
            "small": world.context.pools["small"],
            "theirs": world.context.pools["small"].model_copy(
                update={"name": "theirs", "gitlab": "other", "runner_token": token}
            ),
        }
        world.controller.set_pools(pools)
        _, ours = await world.pipeline()
        pipeline = await other.run_pipeline(project)
        theirs = other.job("one", pipeline)
        assert ours.id == theirs.id

        assert (await world.ended(ours)).status == "success"
        assert (await other.wait_for_job(theirs, timeout_s=20)).status == "success"
        await world.finish()

        jobs = await world.jobs()
        assert {(job.gitlab, job.gitlab_job_id) for job in jobs} == {("gitlab", ours.id), ("other", ours.id)}
        assert {job.state for job in jobs} == {JobState.ENDED}
        assert other.managers() == []
        assert world.gitlab.managers() == []


class Told(RunnerClient):
    """Remembers which token and machine id a GitLab was shown."""

    def __init__(self, url: str, http: httpx.AsyncClient, shown: set[tuple[str, str]]) -> None:
        super().__init__(url, http)
        self._shown = shown

    async def ask(self, token: str, system_id: str, *more: Any) -> Answer:
        self._shown.add((token, system_id))
        return await super().ask(token, system_id, *more)


class Removed(RunnersClient):
    """Likewise."""

    def __init__(self, url: str, http: httpx.AsyncClient, shown: set[tuple[str, str]]) -> None:
        super().__init__(url, http)
        self._shown = shown

    async def delete_manager(self, token: str, system_id: str, **more: Any) -> ManagerRemoval:
        self._shown.add((token, system_id))
        return await super().delete_manager(token, system_id, **more)


async def test_a_pool_that_moves_to_another_gitlab_takes_nothing_with_it(
    world: World, other: FakeGitLab
) -> None:
    """Machine ids, jobs and tokens of one GitLab are never shown to another."""
    shown: dict[str, set[tuple[str, str]]] = {"gitlab": set(), "other": set()}
    async with new_http() as http:
        project = await other.add_project("demo/app", {".gitlab-ci.yml": CI})
        calls = {
            name: GitLabCalls(
                asks=Told(gitlab.url, http, shown[name]),
                jobs=JobClient(gitlab.url, http),
                runners=Removed(gitlab.url, http, shown[name]),
            )
            for name, gitlab in (("gitlab", world.gitlab), ("other", other))
        }
        world.context.gitlab = calls.__getitem__
        world.job_clients["other"] = calls["other"].jobs
        await world.until(lambda: _asked(shown["gitlab"]))
        token = other.add_runner(["small"], run_untagged=True)
        moved = world.context.pools["small"].model_copy(
            update={"gitlab": "other", "runner_token": SecretStr(token)}
        )

        world.controller.set_pools({"small": moved})
        pipeline = await other.run_pipeline(project)
        job = other.job("one", pipeline)

        assert (await other.wait_for_job(job, timeout_s=20)).status == "success"
        await world.finish()

    assert {token for token, _ in shown["gitlab"]} == {world.token}
    assert {token for token, _ in shown["other"]} == {token}
    assert not {machine for _, machine in shown["gitlab"]} & {machine for _, machine in shown["other"]}
    assert {job.gitlab for job in await world.jobs()} == {"other"}
    assert await world.ledger.machines() == []


async def _asked(shown: set[tuple[str, str]]) -> bool:
    return bool(shown)


async def _reason(world: World, word: str) -> bool:
    return any(word in why for why in world.controller.shows.reasons().values())


async def _running(world: World) -> bool:
    return any(job.state is JobState.RUNNING for job in await world.jobs())


async def _gone(world: World) -> bool:
    return all(machine.state is MachineState.GONE for machine in await world.machines())


async def test_an_id_that_was_reserved_on_a_host_that_is_gone_does_not_hold_up_the_end(world: World) -> None:
    left = "fr-leftoverid00"
    await world.ledger.reserve(left, "small", "elsewhere", Resources(1, 256, 1024), "digest", asking=True)
    await world.ledger.end_ask(left)
    await world.ledger.release_room(left)

    await world.finish()

    machine = await world.ledger.machine(left)
    assert machine is not None
    assert (machine.state, machine.reason) == (MachineState.GONE, "its host is no longer configured")
