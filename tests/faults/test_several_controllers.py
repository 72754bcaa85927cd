"""Several controllers on one PostgreSQL: one leads, all serve; leaders die and freeze."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.postgresql import PostgreSQL, running
from tests.scene.controllers import SECRET, Scene, scene
from tests.scene.guests import patient

from firerunner.fakes.gitlab import FakeGitLab
from firerunner.images import Image

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

ASK = r"/api/v4/jobs/request"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with running() as server:
        yield server


def with_api_token(described: dict[str, Any], gitlab: FakeGitLab, _: Path) -> None:
    """A controller may be killed between GitLab's 201 and its commit: then the job is looked up."""
    described["gitlab"]["api_token"] = gitlab.api_token


@pytest.fixture
async def it(postgresql: PostgreSQL, image: Image) -> AsyncIterator[Scene]:
    async with scene(await postgresql.fresh_url(), image) as built:
        await built.start_all()
        yield built


@pytest.fixture
async def looking_up(postgresql: PostgreSQL, image: Image) -> AsyncIterator[Scene]:
    async with scene(await postgresql.fresh_url(), image, describe=with_api_token) as built:
        await built.start_all()
        yield built


async def test_one_leads_and_the_others_serve_gate_and_hooks(it: Scene) -> None:
    leader = await it.leader()
    assert leader is not None
    (other,) = it.others(leader)
    assert "stands by" in (await other.ready())["reasons"]["controller"]

    it.gates.backends = [other.gate]  # every guest speaks to one that does not lead
    jobs = await it.run_jobs(3)
    await it.ended(jobs)

    await it.check_clean()
    assert "job taken" not in other.said()


async def test_a_hook_at_another_wakes_the_leader(postgresql: PostgreSQL, image: Image) -> None:
    async with scene(await postgresql.fresh_url(), image, pool={"check_interval": "5m"}) as it:
        await it.start_all()
        leader = await it.leader()
        (other,) = it.others(leader)
        await asyncio.sleep(2.0)  # its first ask has found nothing
        (job,) = await it.run_jobs(1)
        hook = {"object_kind": "build", "build_status": "pending", "project_id": it.project.id}
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(
                f"http://127.0.0.1:{other.web}/webhook", json=hook, headers={"X-Gitlab-Token": SECRET}
            )

        assert answer.is_success
        await it.ended([job])


async def test_a_leader_that_is_killed_is_replaced_and_its_jobs_go_on(looking_up: Scene) -> None:
    it = looking_up
    it.vmm.life = patient(6.0)
    jobs = await it.run_jobs(4)
    await it.until(lambda: sum(job.status == "running" for job in jobs) >= 3)
    leader = await it.leader()
    assert leader is not None

    leader.kill()
    jobs += await it.run_jobs(2)
    await it.until(it.leader, 20.0)
    await it.ended(jobs)

    await it.check_clean()


@pytest.mark.parametrize("frozen_s", [9.0])
async def test_a_leader_that_stands_still_changes_nothing_when_it_goes_on(it: Scene, frozen_s: float) -> None:
    it.vmm.life = patient(3.0)
    first = await it.leader()
    assert first is not None
    jobs = await it.run_jobs(6)
    await it.until(lambda: any(job.status == "running" for job in jobs))

    first.signal(signal.SIGSTOP)
    it.gates.backends = [each.gate for each in it.others(first)]  # as a load balancer's health check does
    frozen = asyncio.create_task(asyncio.sleep(frozen_s))
    await it.until(lambda: _leads_another(it, first), 20.0)
    jobs += await it.run_jobs(2)
    await frozen
    first.signal(signal.SIGCONT)
    it.gates.backends = [each.gate for each in it.controllers]

    await it.ended(jobs)
    await it.until(lambda: "another leads now" in first.said())
    await it.check_clean()


async def test_a_job_that_gitlab_gives_to_a_frozen_leader_is_not_lost(it: Scene) -> None:
    """GitLab answers 201 to one that stands still; when it goes on, another leads."""
    first = await it.leader()
    assert first is not None
    await it.until(lambda: it.gitlab.calls(path=ASK))
    held = it.gitlab.misbehave(ASK, hold=True, times=1)
    await it.until(lambda: held.used)

    first.signal(signal.SIGSTOP)
    it.gates.backends = [each.gate for each in it.others(first)]
    (job,) = await it.run_jobs(1)
    held.release()
    await it.until(lambda: job.status == "running")
    await it.until(lambda: _leads_another(it, first), 20.0)
    first.signal(signal.SIGCONT)

    await it.ended([job])
    await it.check_clean()


async def _leads_another(it: Scene, first: object) -> bool:
    leader = await it.leader()
    return leader is not None and leader is not first
