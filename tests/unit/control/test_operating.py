"""What the API shows and does, on a whole FireRunner: real loop and ledger, a fake GitLab."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from firerunner.control.sizing import Sizing
from firerunner.errors import GitLabError
from firerunner.fakes.gitlab import JobStatus
from firerunner.fakes.machines import Guest, good_life, start
from firerunner.leading import Term
from firerunner.ledger import HostUse, JobState
from firerunner.operating import operations
from firerunner.settings import HostSettings, Settings
from firerunner.web import Host, Operations

from .conftest import World

pytestmark = pytest.mark.anyio


NOBODY: Any = None


class _NoSizes:
    def reasons(self) -> dict[str, str]:
        return {}


def operating(world: World) -> Operations:
    pool: dict[str, Any] = {"name": "small", "runner_token": "glrt-x", "image": "demo"}
    settings = Settings.model_validate(
        {"gitlab": {"url": world.gitlab.url}, "pools": [pool], "hosts": [HostSettings(labels={"zone": "a"})]}
    )
    term = Term(world.context, world.controller, cast(Sizing, _NoSizes()), NOBODY, NOBODY, None)
    return operations(
        *(lambda: settings, world.ledger, world.context.pools, lambda: term),
        *(world.context.drivers, world.context.rest, world.gate.looks),
    )


async def test_the_job_of_a_destroyed_machine_is_reported(world: World) -> None:
    running = asyncio.Event()

    async def hangs(guest: Guest) -> None:
        await start(guest)
        running.set()
        await asyncio.Event().wait()

    world.driver.life = hangs
    _, job = await world.pipeline()
    await running.wait()
    world.driver.life = good_life
    (machine,) = [each for each in await world.ledger.machines() if each.job_id is not None]

    await operating(world).destroy(machine.machine_id, "destroyed by an operator (it hangs)")
    await world.ended(job)
    await world.finish()

    assert job.failure_reason == "runner_system_failure"
    (ours,) = [each for each in await world.jobs() if each.machine_id == machine.machine_id]
    assert (ours.state, ours.failure_reason) == (JobState.RETURNED, "runner_system_failure")
    assert "destroyed by an operator (it hangs)" in ours.reason
    await world.check_nothing_left()


async def test_a_job_is_cancelled_in_gitlab_if_there_is_a_token_for_that(world: World) -> None:
    running = asyncio.Event()

    async def hangs(guest: Guest) -> None:
        await start(guest)
        running.set()
        await asyncio.Event().wait()

    world.driver.life = hangs
    _, job = await world.pipeline()
    await running.wait()
    shown = operating(world)
    fleet = await shown.fleet()

    with pytest.raises(GitLabError, match="no api_token"):
        await shown.cancel(fleet.jobs[0])
    world.api_token = world.gitlab.api_token
    await shown.cancel(fleet.jobs[0])

    assert job.status in {JobStatus.CANCELING, JobStatus.CANCELED}
    assert [each.gitlab_job_id for each in fleet.jobs] == [job.id]
    assert fleet.jobs[0].machine_id in {machine.machine_id for machine in fleet.machines}
    assert [pool.jobs for pool in fleet.pools] == [1]


async def test_hosts_and_pools_are_told_as_they_are(world: World) -> None:
    await world.ledger.use_host("local", HostUse.DRAINING, "new disks")
    shown = operating(world)

    async def known() -> Host | None:
        (host,) = await shown.hosts()
        return host if host.room else None

    host = await world.until(known)
    (pool,) = await shown.pools()

    assert (host.name, host.labels) == ("local", {"zone": "a"})
    assert (host.use, host.reason) == (HostUse.DRAINING, "new disks")
    assert (host.trouble, host.machines, host.jobs) == (None, 0, 0)
    assert (pool.name, pool.machines, pool.executor) == ("small", 0, "shell")
    assert world.token not in pool.model_dump_json() + host.model_dump_json()
