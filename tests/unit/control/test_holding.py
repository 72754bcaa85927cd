"""The machine of a failed job is kept for a look if its pool wants that, within its limits, and goes then."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import httpx
import pytest

from firerunner.fakes.machines import Guest, start
from firerunner.gate.looking import is_held
from firerunner.ledger import MachineRecord, MachineState
from tests.unit.control.conftest import World

pytestmark = pytest.mark.anyio


@dataclass
class Failing:
    """Guests whose jobs fail; a held one stays, and answers looks with what they were."""

    answers: list[int] = field(default_factory=list)

    async def __call__(self, guest: Guest) -> None:
        await start(guest)
        await guest.update("failed", failure_reason="script_failure", exit_code=1)
        answer = await guest.ended(1)
        self.answers.append(answer.status_code)
        body = b""
        while answer.status_code == 200:
            asked = await self._ask(guest, body)
            number, _, script = asked.text.partition("\n")
            body = f"{number} 7\nsaw {script}".encode() if asked.status_code == 200 else b""
            if asked.status_code == 410:
                return

    async def _ask(self, guest: Guest, body: bytes) -> httpx.Response:
        headers = {"Authorization": f"Bearer {guest.spec.credential}"}
        return await guest.http.post(f"{guest.base}/guest/look", headers=headers, content=body)


async def held(world: World) -> MachineRecord | None:
    machines = await world.ledger.machines()
    return next((machine for machine in machines if is_held(machine, world.clock())), None)


async def failed_and_held(world: World, limit: int = 1) -> tuple[Failing, MachineRecord]:
    """One job has failed, and its machine is kept."""
    world.facts = {"hold_s": 600.0, "hold_limit": limit}
    world.driver.life = life = Failing()
    _, job = await world.pipeline()
    assert (await world.ended(job)).status == "failed"
    machine = await world.until(lambda: held(world))
    return life, machine


async def test_it_stays_with_its_room_while_another_of_the_pool_goes(world: World) -> None:
    life, machine = await failed_and_held(world)

    _, second = await world.pipeline()
    await world.ended(second)
    await world.until(lambda: _is_gone(world, second.id))

    assert life.answers == [200, 204]
    kept = await world.ledger.machine(machine.machine_id)
    assert kept is not None
    assert (kept.state, kept.room_held) == (MachineState.BUSY, True)
    journal = await world.ledger.journal(0, None, 1000)
    assert [row.event for row in journal if row.event in {"held", "not held", "guest ended"}] == [
        *("held", "guest ended"),  # the other way round, a sweep in between would retire it
        *("not held", "guest ended"),
    ]


async def _is_gone(world: World, gitlab_job_id: int) -> bool:
    job = next(each for each in await world.jobs() if each.gitlab_job_id == gitlab_job_id)
    machine = await world.ledger.machine(job.machine_id or "")
    return machine is not None and machine.state is MachineState.GONE


async def test_an_operator_sees_what_a_script_prints(world: World) -> None:
    _, machine = await failed_and_held(world)

    first = await world.gate.looks.run(machine.machine_id, "pwd", 10.0)
    second = await world.gate.looks.run(machine.machine_id, "ls -l\nid", 10.0)

    assert first is not None
    assert second is not None
    assert (first.exit_code, first.output) == (7, b"saw pwd\n")
    assert second.output == b"saw ls -l\nid\n"
    assert await world.gate.looks.run("fr-ffffffffffff", "pwd", 0.05) is None


async def test_a_released_one_goes_and_nothing_is_left(world: World) -> None:
    _, machine = await failed_and_held(world)

    await world.ledger.release_hold(machine.machine_id)
    await world.until(lambda: _none_is_there(world))

    await world.finish()
    await world.check_nothing_left()


async def _none_is_there(world: World) -> bool:
    return await world.ledger.machines(frozenset({MachineState.BUSY})) == []


async def test_it_goes_when_its_time_is_over(world: World) -> None:
    await failed_and_held(world)

    world.ahead_s = 601.0

    await world.until(lambda: _none_is_there(world))


async def test_a_controller_that_finishes_waits_for_no_hold(world: World) -> None:
    await failed_and_held(world)

    await world.finish()

    await world.check_nothing_left()


async def test_it_outlives_the_controller(world: World) -> None:
    _, machine = await failed_and_held(world)

    await world.crash()
    await world.start()
    await world.until(lambda: _is_adopted(world))

    assert await world.gate.looks.run(machine.machine_id, "pwd", 10.0) is not None


async def _is_adopted(world: World) -> bool:
    await asyncio.sleep(1.0)  # the sweep, twice
    return await held(world) is not None


async def test_the_machine_of_a_job_that_succeeded_goes_at_once(world: World) -> None:
    world.facts = {"hold_s": 600.0, "hold_limit": 1}
    _, job = await world.pipeline()

    assert (await world.ended(job)).status == "success"
    await world.until(lambda: _is_gone(world, job.id))


async def test_who_is_not_held_is_told_to_go(world: World) -> None:
    told = asyncio.get_running_loop().create_future()

    async def asks(guest: Guest) -> None:
        await start(guest)
        headers = {"Authorization": f"Bearer {guest.spec.credential}"}
        told.set_result((await guest.http.post(f"{guest.base}/guest/look", headers=headers)).status_code)
        await guest.update("success")
        await guest.ended()

    world.driver.life = asks
    _, job = await world.pipeline()

    assert (await world.ended(job)).status == "success"
    assert await told == 410
