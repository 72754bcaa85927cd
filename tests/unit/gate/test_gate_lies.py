"""What a lying or broken guest gets: a clear no, counted, journalled once, and nothing of GitLab's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from gate_given import (
    DEP,
    DEP_TOKEN,
    JOB,
    TOKEN,
    A,
    B,
    Guest,
    World,
    credential,
    give_job,
    machine_in,
)

from firerunner.gate import Limits
from firerunner.ledger import JobState, MachineState

pytestmark = pytest.mark.anyio

OTHER_JOB = 92
OTHER_TOKEN = "glcbt-job-92"

Call = Callable[[Guest], Awaitable[httpx.Response]]


async def two_machines(world: World) -> Guest:
    """A runs job 91, B runs job 92."""
    guest = await world.running()
    other = await world.waiting(B)
    raw = b'{"id":92,"token":"glcbt-job-92"}'
    await give_job(world.ledger, B, OTHER_JOB, OTHER_TOKEN, raw)
    assert (await other.ask()).status_code == 201
    world.gitlab.heard.clear()
    return guest


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda g: g.update(job_id=OTHER_JOB, token=TOKEN), "other_job"),
        (lambda g: g.update(job_id=OTHER_JOB, token=OTHER_TOKEN), "other_job"),
        (lambda g: g.trace(job_id=OTHER_JOB, token=OTHER_TOKEN), "other_job"),
        (lambda g: g.upload(job_id=OTHER_JOB, token=OTHER_TOKEN), "other_job"),
        (lambda g: g.update(token=OTHER_TOKEN), "wrong_token"),
        (lambda g: g.trace(token=OTHER_TOKEN), "wrong_token"),
        (lambda g: g.upload(token="x" * 5000), "wrong_token"),
        (lambda g: g.download(job_id=OTHER_JOB, token=OTHER_TOKEN), "not_a_dependency"),
        (lambda g: g.download(job_id=JOB, token=TOKEN), "not_a_dependency"),
        (lambda g: g.download(token=TOKEN), "wrong_token"),
        (lambda g: g.http.put(g.path(f"api/v4/jobs/{JOB}"), json={"state": "success"}), "wrong_token"),
        (lambda g: g.http.patch(g.path(f"api/v4/jobs/{JOB}/trace"), content=b"x"), "wrong_token"),
    ],
)
async def test_a_guest_speaks_for_its_own_job_only(world: World, call: Call, kind: str) -> None:
    guest = await two_machines(world)

    first = await call(guest)
    await call(guest)

    assert first.status_code == 403
    assert first.json()["kind"] == kind
    assert "FireRunner's gate" in first.json()["message"]
    assert world.lies() == [kind, kind]
    rows = await world.ledger.journal(subject=A)
    assert [row.detail["kind"] for row in rows if row.event == "refused"] == [kind]
    assert world.gitlab.heard == []


@pytest.mark.parametrize(
    "call",
    [lambda g: g.ask(), lambda g: g.booted(), lambda g: g.ended()],
)
async def test_another_machines_credential_opens_nothing(world: World, call: Call) -> None:
    await machine_in(world.ledger, MachineState.WAITING, A)
    await machine_in(world.ledger, MachineState.WAITING, B)

    response = await call(world.guest(A, credential=credential(B)))

    assert (response.status_code, response.json()["kind"]) == (403, "wrong_credential")
    machine = await world.ledger.machine(A)
    assert machine is not None
    assert (machine.state, machine.ended_reported_at) == (MachineState.WAITING, None)


async def test_a_machine_that_nobody_knows_leaves_no_trace_in_the_journal(world: World) -> None:
    response = await world.guest("fr-zzzzzzzzzzzz").ask()

    assert (response.status_code, response.json()["kind"]) == (403, "unknown_machine")
    assert await world.ledger.journal() == []


async def test_header_and_body_must_name_the_same_credential(world: World) -> None:
    guest = await world.assigned()

    response = await guest.http.post(
        guest.path("api/v4/jobs/request"),
        headers={"RUNNER-TOKEN": "another"},
        json={"token": guest.credential},
    )

    assert (response.status_code, response.json()["kind"]) == (403, "wrong_credential")


async def test_a_machine_that_is_not_wanted_any_more_is_not_let_boot(world: World) -> None:
    await machine_in(world.ledger, MachineState.BOOTING)
    await world.ledger.move_machine(A, MachineState.RETIRING)

    response = await world.guest().booted()

    machine = await world.ledger.machine(A)
    assert response.status_code == 410
    assert machine is not None
    assert (machine.state, machine.boots) == (MachineState.RETIRING, 0)


async def test_a_job_call_before_the_delivery_is_refused(world: World) -> None:
    guest = await world.assigned()

    response = await guest.update()

    assert (response.status_code, response.json()["kind"]) == (403, "no_job")
    job = await world.ledger.job(JOB)
    assert job is not None
    assert job.state is JobState.ASSIGNED


async def test_after_its_end_a_guest_is_refused_everything(world: World) -> None:
    guest = await world.running()
    await guest.ended()
    world.gitlab.heard.clear()

    asked, updated, traced, booted = (
        await guest.ask(),
        await guest.update(),
        await guest.trace(),
        await guest.booted(),
    )

    assert [one.status_code for one in (asked, updated, traced, booted)] == [403, 403, 403, 410]
    assert world.gitlab.heard == []
    assert (await guest.ended("exit_code=7")).status_code == 204
    machine = await world.ledger.machine(A)
    assert machine is not None
    assert machine.exit_code == 0


async def test_a_lost_final_answer_is_no_lie(world: World) -> None:
    guest = await world.running()
    await guest.update("success")

    again = await guest.update("success")

    assert (again.status_code, again.headers["job-status"]) == (403, "success")
    assert world.lies() == []
    assert (await guest.ask()).status_code == 204


async def test_a_job_that_we_gave_up_stops_its_runner(world: World) -> None:
    guest = await world.running()
    await world.ledger.move_job(JOB, JobState.RETURNED)
    world.gate.wake(A)
    world.gitlab.heard.clear()

    response = await guest.trace()

    assert (response.status_code, response.headers["job-status"]) == (403, "failed")
    assert world.gitlab.heard == []


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda g: g.http.put(g.path(f"api/v4/jobs/{JOB}"), content=b"{", headers=TOKENED), 400),
        (lambda g: g.http.put(g.path(f"api/v4/jobs/{JOB}"), content=b"[]", headers=TOKENED), 400),
        (lambda g: g.http.put(g.path(f"api/v4/jobs/{JOB}"), content=b"[" * 4000, headers=TOKENED), 400),
        (lambda g: g.http.put(g.path(f"api/v4/jobs/{JOB}"), content=b'{"token":1}', headers=TOKENED), 400),
        (lambda g: g.update(exit_code="three"), 400),
        (lambda g: g.http.post(g.path("api/v4/jobs/request"), content=b"\xff\xfe"), 400),
        (lambda g: g.http.post(g.path("api/v4/jobs/request"), json=[]), 400),
        (lambda g: g.http.post(g.path("api/v4/jobs/request"), json={"token": 5}), 400),
        (lambda g: g.ended("rm -rf"), 400),
        (lambda g: g.upload(query="token=glcbt-other"), 400),
        (lambda g: g.download(query="?job_token=x"), 400),
        (lambda g: g.http.get(g.path("api/v4/jobs/91/trace")), 404),
        (lambda g: g.http.get(g.path("api/v4/projects")), 404),
        (lambda g: g.http.get("/"), 404),
        (lambda g: g.http.delete(g.path("api/v4/jobs/91")), 404),
        (lambda g: g.http.put(g.path("api/v4/jobs/0x5b"), json={}), 404),
        (lambda g: g.http.get("/m/..%2f..%2fetc/api/v4/jobs/91/artifacts"), 404),
        (lambda g: g.http.get(g.path("api/v4/runners/router/discovery")), 501),
    ],
)
async def test_malformed_calls_are_told_so(world: World, call: Call, status: int) -> None:
    guest = await world.running()
    world.gitlab.heard.clear()

    response = await call(guest)

    assert response.status_code == status
    assert str(status) in response.json()["message"]
    assert world.gitlab.heard == []
    assert (await guest.trace()).status_code == 202


TOKENED = {"JOB-TOKEN": TOKEN}


async def test_a_token_given_twice_is_malformed(world: World) -> None:
    guest = await world.running()

    response = await guest.http.patch(
        guest.path(f"api/v4/jobs/{JOB}/trace"),
        headers=[("JOB-TOKEN", TOKEN), ("JOB-TOKEN", OTHER_TOKEN)],
        content=b"x",
    )

    assert response.status_code == 400


async def test_garbage_instead_of_http_is_answered_with_400(world: World) -> None:
    where = urlsplit(world.gate_url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)

    writer.write(b"\x16\x03\x01\x02\x00 this is not HTTP\r\n\r\n")
    await writer.drain()

    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()
    await writer.wait_closed()


async def test_other_credentials_and_cookies_do_not_pass(world: World) -> None:
    guest = await world.running()
    world.gitlab.on("PATCH", f"jobs/{JOB}/trace", 202, b"", Set_Cookie="session=1", Range="0-5")

    response = await guest.http.patch(
        guest.path(f"api/v4/jobs/{JOB}/trace"),
        headers={
            "JOB-TOKEN": TOKEN,
            "Content-Range": "0-0",
            "PRIVATE-TOKEN": "glpat-1",
            "Authorization": "Bearer x",
            "Cookie": "a=b",
            "X-Forwarded-For": "1.2.3.4",
            "Host": "gitlab.internal",
        },
        content=b"x",
    )
    await guest.trace()

    assert "set-cookie" not in response.headers
    for heard in world.gitlab.said("PATCH", f"jobs/{JOB}/trace"):
        assert not {"private-token", "authorization", "cookie", "x-forwarded-for"} & set(heard.headers)
        assert heard.headers["host"] == world.gitlab_url.removeprefix("http://")


async def endless(block: bytes = b"x" * 65536) -> Any:
    while True:
        yield block


async def test_an_endless_trace_is_cut_off_and_never_reaches_gitlab_whole(world: World) -> None:
    guest = await world.running()
    world.gitlab.heard.clear()

    response = await guest.http.patch(
        guest.path(f"api/v4/jobs/{JOB}/trace"),
        headers={"JOB-TOKEN": TOKEN, "Content-Range": "0-5"},
        content=finite(b"x" * 65536, 4),
    )

    assert (response.status_code, response.json()["kind"]) == (413, "too_large")
    assert world.gitlab.heard == []
    endless_patch = guest.http.patch(
        guest.path(f"api/v4/jobs/{JOB}/trace"),
        headers={"JOB-TOKEN": TOKEN, "Content-Range": "0-5"},
        content=endless(),
    )
    await asyncio.gather(endless_patch, return_exceptions=True)
    assert world.lies() == ["too_large", "too_large"]
    assert world.gitlab.heard == []
    assert (await guest.trace()).status_code == 202


async def finite(block: bytes, times: int) -> Any:
    for _ in range(times):
        yield block


@pytest.mark.parametrize("declared", [True, False])
async def test_an_oversize_update_is_refused(world: World, declared: bool) -> None:
    guest = await world.running()
    world.gitlab.heard.clear()

    response = await guest.http.put(
        guest.path(f"api/v4/jobs/{JOB}"),
        headers=TOKENED,
        content=b" " * 9000 if declared else finite(b" " * 3000, 3),
    )

    assert response.status_code == 413
    assert world.gitlab.heard == []


class TestSlowBodies:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(body_timeout_s=0.05)

    async def test_a_body_that_does_not_come_is_given_up(self, world: World) -> None:
        guest = await world.running()
        never = asyncio.Event()

        async def stalled() -> Any:
            yield b"x"
            await never.wait()

        sending = asyncio.create_task(
            guest.http.patch(
                guest.path(f"api/v4/jobs/{JOB}/trace"),
                headers={"JOB-TOKEN": TOKEN, "Content-Range": "0-5"},
                content=stalled(),
            )
        )
        async with asyncio.timeout(10):
            while "too_slow" not in world.lies():
                await asyncio.sleep(0)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


class TestManyCalls:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(requests_per_s=0.001, burst=8)

    async def test_too_many_calls_get_429_and_when_to_come_again(self, world: World) -> None:
        guest = await world.running()

        codes = [(await guest.trace()).status_code for _ in range(10)]
        response = await guest.trace()

        assert codes[0] == 202
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) > 1
        assert (await guest.ask()).status_code == 204

    async def test_a_liar_does_not_use_up_the_machines_budget(self, world: World) -> None:
        guest = await world.running()

        codes = [(await guest.trace(token="guessed")).status_code for _ in range(12)]

        assert (codes[0], codes[-1]) == (403, 429)
        assert (await guest.trace()).status_code == 202


class TestAtOnce:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(concurrent=1)

    async def test_more_requests_at_once_than_allowed_get_429(self, world: World) -> None:
        guest = await world.waiting()
        asking = asyncio.create_task(guest.ask())
        async with asyncio.timeout(10):
            while not world.gate.held_asks():
                await asyncio.sleep(0)

        second = await guest.ask()

        assert (second.status_code, second.headers["retry-after"]) == (429, "1")
        world.gate.close()
        assert (await asking).status_code == 503


async def test_dependencies_are_known_after_a_restart(world: World) -> None:
    guest = await world.running()
    world.gate.wake(A)
    tables = world.gate._ties._ties
    tables.clear()

    good = await guest.download()
    bad = await guest.download(token="guessed")

    assert (good.status_code, bad.status_code) == (200, 403)
    rows = await world.ledger.journal(subject=str(JOB))
    assert all(DEP_TOKEN not in str(row.detail) for row in rows)
    assert [list(row.detail) for row in rows if row.event == "dependencies"] == [[str(DEP)]]
