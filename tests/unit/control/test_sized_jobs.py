"""A job with a sized tag runs on a machine of that size, from GitLab's queue to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from firerunner.control.sizing import Sizing
from firerunner.gitlab import RestClient
from firerunner.intake import Hook
from firerunner.ledger import MachineState
from firerunner.machines.spec import Resources
from firerunner.settings import PoolSettings

from .conftest import World
from .sizing_given import ci, template

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sizing(world: World) -> AsyncIterator[Sizing]:
    declared = world.context.pools["small"]

    def set_sized_pools(pools: list[PoolSettings]) -> None:
        world.controller.set_pools({"small": declared} | {pool.name: pool for pool in pools})

    async with AsyncExitStack() as stack:
        rest = RestClient(world.gitlab.url, world.gitlab.api_token)
        stack.push_async_callback(rest.aclose)
        made = Sizing(
            world.context.ledger,
            lambda name: rest,
            lambda: [template()],
            set_sized_pools,
            world.context.clock,
            world.context.log,
        )
        await made.restore()
        running = asyncio.create_task(made.run())
        yield made
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_job_runs_on_a_machine_of_the_size_that_it_names(world: World, sizing: Sizing) -> None:
    await world.gitlab.commit(world.project, {".gitlab-ci.yml": ci("firecracker-3cpu-2gb")})
    job = world.gitlab.job("two", await world.gitlab.run_pipeline(world.project))

    sizing.on_hook(Hook("build", world.project.id, means_work=True, gitlab=("gitlab",)))

    assert (await world.ended(job)).status == "success"
    (machine,) = [m for m in await world.machines() if m.pool.startswith("sized-") and m.job_id is not None]
    assert machine.resources == Resources(3, 2048, 1024)
    assert machine.state in {MachineState.BUSY, MachineState.RETIRING, MachineState.GONE}
    assert len(world.gitlab.world.runners) == 2  # the pool's own, and the one of this size
