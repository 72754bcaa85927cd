"""The ask of a guest: held, confirmed with GitLab, answered again, and answered no more."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from gate_given import (
    ANSWER,
    JOB,
    A,
    B,
    GitLabDouble,
    Guest,
    World,
    give_job,
    machine_in,
    serving,
    usual_facts,
)

from firerunner.gate import GuestAsked, JobDelivered, JobFinal, JobGone, Limits, create_gate
from firerunner.gitlab import JobClient, new_http
from firerunner.ledger import JobState, MachineState

pytestmark = pytest.mark.anyio


async def until_held(world: World) -> None:
    """Let the other tasks run until the gate holds an ask."""
    async with asyncio.timeout(10):
        while not world.gate.held_asks():
            await asyncio.sleep(0)


async def test_an_early_ask_is_held_until_its_job_is_there(world: World) -> None:
    guest = await world.waiting()
    asking = asyncio.create_task(guest.ask())
    await until_held(world)
    await give_job(world.ledger)

    world.gate.wake(A)

    response = await asking
    assert (response.status_code, response.content) == (201, ANSWER)
    assert world.gate.held_asks() == 0


async def test_waking_another_machine_changes_nothing(world: World) -> None:
    guest = await world.waiting()
    asking = asyncio.create_task(guest.ask())
    await until_held(world)

    world.gate.wake(B)
    world.gate.wake(A)
    await until_held(world)
    await give_job(world.ledger)
    world.gate.wake(A)

    assert (await asking).status_code == 201


async def test_a_guest_that_hangs_up_while_it_is_held_is_let_go(world: World) -> None:
    guest = await world.waiting()
    asking = asyncio.create_task(guest.ask())
    await until_held(world)

    asking.cancel()

    async with asyncio.timeout(10):
        while world.gate.held_asks():
            await asyncio.sleep(0)
    assert world.counts == [("guest", "hung_up")]


async def test_a_retired_machine_is_not_held_on(world: World) -> None:
    guest = await world.waiting()
    asking = asyncio.create_task(guest.ask())
    await until_held(world)
    await world.ledger.move_machine(A, MachineState.RETIRING)

    world.gate.wake(A)

    assert (await asking).status_code == 204
    assert (await guest.ask()).status_code == 204
    assert world.lies() == []


async def test_going_down_answers_held_asks_with_503(world: World) -> None:
    guest = await world.waiting()
    asking = asyncio.create_task(guest.ask())
    await until_held(world)

    world.gate.close()

    response = await asking
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


class TestWithoutHolding:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(hold_s=0)

    async def test_nothing_there_is_204(self, world: World) -> None:
        guest = await world.waiting()

        response = await guest.ask()

        assert (response.status_code, response.content) == (204, b"")
        assert world.events == [GuestAsked(A)]


async def test_the_same_answer_comes_again_until_the_first_job_call(world: World) -> None:
    guest = await world.delivered()

    again = await guest.ask(system_id="r_bbbbbbbbbbbb")
    await guest.update()
    after = await guest.ask()

    assert (again.status_code, again.content) == (201, ANSWER)
    assert after.status_code == 204
    assert world.events.count(JobDelivered(JOB, A)) == 1
    assert world.lies() == []


async def test_two_asks_at_once_get_the_same_answer_and_one_delivery(world: World) -> None:
    guest = await world.assigned()

    first, second = await asyncio.gather(guest.ask(), guest.ask())

    assert (first.content, second.content) == (ANSWER, ANSWER)
    assert world.events.count(JobDelivered(JOB, A)) == 1


async def test_the_same_answer_comes_after_a_restart_between_delivery_and_first_call(world: World) -> None:
    await world.delivered()
    await world.ledger.set_trace_bytes({JOB: 0})
    async with new_http() as upstream:
        gate = create_gate(
            ledger=world.ledger,
            gitlab=lambda name: JobClient(world.gitlab_url, upstream),
            facts=usual_facts,
            notify=world.events.append,
        )
        gate.ready = True
        async with serving(gate) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
            guest = Guest(http)

            response = await guest.ask()

            assert (response.status_code, response.content) == (201, ANSWER)
            assert (await guest.update()).status_code == 200
            assert (await guest.ask()).status_code == 204


@pytest.mark.parametrize("status", [403, 404])
async def test_a_job_that_gitlab_does_not_know_is_not_delivered(world: World, status: int) -> None:
    guest = await world.assigned()
    world.gitlab.on("PUT", f"jobs/{JOB}", status)

    first = await guest.ask()
    second = await guest.ask()

    assert (first.status_code, second.status_code) == (204, 204)
    assert [event for event in world.events if event != GuestAsked(A)] == [JobGone(JOB, A, status)]
    job = await world.ledger.job(JOB)
    assert job is not None
    assert job.state is JobState.ASSIGNED


@pytest.mark.parametrize("status", ["canceled", "failed"])
async def test_a_job_that_is_over_in_gitlab_is_not_delivered(world: World, status: str) -> None:
    guest = await world.assigned()
    world.gitlab.on("PUT", f"jobs/{JOB}", 200, Job_Status=status)

    response = await guest.ask()

    assert response.status_code == 204
    assert world.events[1:] == [JobGone(JOB, A, 200, status)]


async def test_a_job_cancelled_during_boot_is_ended_for_gitlab_without_running(world: World) -> None:
    guest = await world.assigned()
    world.gitlab.on("PUT", f"jobs/{JOB}", 200, Job_Status="canceling")

    response = await guest.ask()

    assert response.status_code == 204
    assert [json.loads(one.body)["state"] for one in world.gitlab.said("PUT", f"jobs/{JOB}")] == [
        "running",
        "failed",
    ]
    job = await world.ledger.job(JOB)
    assert job is not None
    assert (job.state, job.gitlab_status) == (JobState.ENDED, "canceled")
    assert world.events[1:] == [JobFinal(JOB, A, "canceled")]


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (500, b"oops", {}),
        (429, b"slow", {"Retry_After": "7"}),
        (200, b"<html>log in</html>", {"Content_Type": "text/html; charset=utf-8"}),
        (401, b"", {}),
        (409, b"", {}),
    ],
)
async def test_without_gitlabs_word_the_runner_is_told_to_come_again(
    world: World, status: int, body: bytes, headers: dict[str, str]
) -> None:
    guest = await world.assigned()
    world.gitlab.on("PUT", f"jobs/{JOB}", status, body, **headers)

    refused = await guest.ask()

    assert refused.status_code == 503
    assert refused.headers["retry-after"] == headers.get("Retry_After", "2")
    job = await world.ledger.job(JOB)
    assert job is not None
    assert job.state is JobState.ASSIGNED
    world.gitlab.replies.clear()
    assert (await guest.ask()).status_code == 201


async def test_a_job_reassigned_while_gitlab_confirms_goes_to_its_new_machine_only(world: World) -> None:
    first = await world.assigned(A)
    second = await world.waiting(B)

    async def reassign(double: GitLabDouble, scope: object, receive: object, send: object) -> None:
        await double.listen(scope, receive)  # type: ignore[arg-type]
        await world.ledger.reassign(JOB, B)
        double.scripts.clear()
        await double.reply(send, double.replies["PUT"])  # type: ignore[arg-type]

    world.gitlab.on("PUT", f"jobs/{JOB}", 200, Job_Status="running")
    world.gitlab.replies["PUT"] = world.gitlab.replies[f"PUT /api/v4/jobs/{JOB}"]
    world.gitlab.scripts[f"PUT /api/v4/jobs/{JOB}"] = reassign

    lost = await first.ask()
    found = await second.ask()

    assert lost.status_code == 204
    assert (found.status_code, found.content) == (201, ANSWER)
    assert world.events.count(JobDelivered(JOB, B)) == 1


async def test_a_job_without_an_answer_is_not_delivered(world: World) -> None:
    guest = await world.assigned()
    await world.ledger.drop_payload(JOB)

    assert (await guest.ask()).status_code == 204


async def test_a_machine_that_has_not_booted_gets_no_job(world: World) -> None:
    await machine_in(world.ledger, MachineState.BOOTING)
    await give_job_to_booting(world)

    response = await world.guest().ask()

    assert response.status_code == 403
    assert world.lies() == ["before_boot"]


async def give_job_to_booting(world: World) -> None:
    await world.waiting(B)
    await give_job(world.ledger, B)
    await world.ledger.move_machine(B, MachineState.FAILED)
    await world.ledger.reassign(JOB, A)
