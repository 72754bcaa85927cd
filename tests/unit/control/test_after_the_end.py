"""A machine that was given up speaks on about its job; the gate stops it, and does not leave it to GitLab."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from firerunner.fakes.machines import Guest, start
from firerunner.gate import GATE_SAYS
from firerunner.ledger import MachineState

from .conftest import World

pytestmark = pytest.mark.anyio


async def test_the_gate_passes_nothing_on_once_the_job_was_given_back(world: World) -> None:
    async def asks_again(guest: Guest) -> None:
        await start(guest)
        await guest.say("working\n")
        await guest.ask()
        await asyncio.Event().wait()

    world.driver.life = asks_again
    _, job = await world.pipeline()
    await world.ended(job)
    await world.until(lambda: world.ledger.machines(frozenset({MachineState.GONE})))
    (machine_id,) = world.driver.created
    passed_on = len(world.gitlab.calls("PUT"))

    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.put(
            f"http://{world.gate_address}/m/{machine_id}/api/v4/jobs/{job.id}",
            json={"token": job.token, "state": "running"},
        )

    assert answer.status_code == 403
    assert GATE_SAYS in answer.text
    assert len(world.gitlab.calls("PUT")) == passed_on
