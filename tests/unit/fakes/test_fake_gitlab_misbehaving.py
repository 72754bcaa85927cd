"""What a test can make go wrong: wrong answers, late ones, cut ones, lost ones."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fake_gitlab_wire import Wire

from firerunner.fakes.gitlab import FakeGitLab, bad_gateway, conflict, too_many_requests

pytestmark = pytest.mark.anyio

ASK = "/api/v4/jobs/request"


async def test_an_answer_that_is_lost_after_its_effect(gitlab: FakeGitLab, wire: Wire) -> None:
    project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": "a: {script: [x]}\n"})
    await gitlab.run_pipeline(project)
    gitlab.misbehave(ASK, lose_answer=True, times=1)
    token = gitlab.add_runner()

    with pytest.raises(httpx.TransportError):
        await wire.ask(token)
    after = await wire.ask(token)

    assert (gitlab.job("a").status, after.status_code) == ("running", 204)


async def test_an_answer_cut_in_its_body(gitlab: FakeGitLab, wire: Wire) -> None:
    project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": "a: {script: [x]}\n"})
    await gitlab.run_pipeline(project)
    gitlab.misbehave(ASK, cut_after_bytes=100, times=1)
    got = b""
    with pytest.raises(httpx.RemoteProtocolError):
        async with wire.client.stream("POST", "/jobs/request", json={"token": gitlab.add_runner()}) as answer:
            async for chunk in answer.aiter_raw():
                got += chunk
    assert (answer.status_code, len(got), got[:6]) == (201, 100, b'{"id":')


async def test_a_refused_connection_has_no_effect(gitlab: FakeGitLab, wire: Wire) -> None:
    gitlab.misbehave(ASK, refuse=True, times=1)
    token = gitlab.add_runner()
    with pytest.raises(httpx.TransportError):
        await wire.ask(token)
    assert gitlab.managers() == []


async def test_pages_of_a_proxy_and_limits(gitlab: FakeGitLab, wire: Wire) -> None:
    gitlab.misbehave(bad_gateway(ASK, times=1))
    gitlab.misbehave(too_many_requests(ASK, 7, times=1))
    gitlab.misbehave(conflict(times=1))
    token = gitlab.add_runner()
    answers = [await wire.ask(token) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [502, 429, 409, 204]
    assert answers[0].headers["content-type"] == "text/html"
    assert answers[1].headers["Retry-After"] == "7"


async def test_a_rule_may_skip_and_counts(gitlab: FakeGitLab, wire: Wire) -> None:
    rule = gitlab.misbehave(ASK, method="POST", status=500, skip=1, times=1)
    token = gitlab.add_runner()
    codes = [(await wire.ask(token)).status_code for _ in range(3)]
    assert (codes, rule.used) == ([204, 500, 204], 1)


async def test_chance_is_repeatable(gitlab: FakeGitLab, wire: Wire) -> None:
    token = gitlab.add_runner()

    async def codes() -> list[int]:
        gitlab.behave()
        gitlab.misbehave(ASK, status=500, probability=0.5, seed=4)
        return [(await wire.ask(token)).status_code for _ in range(12)]

    first, second = await codes(), await codes()
    assert first == second
    assert set(first) == {204, 500}


async def test_a_held_request_waits_for_its_release(gitlab: FakeGitLab, wire: Wire) -> None:
    rule = gitlab.misbehave(ASK, hold=True)
    asking = asyncio.ensure_future(wire.ask(gitlab.add_runner()))
    await gitlab.wait_for(lambda: gitlab.calls("POST", ASK))
    managers_before = gitlab.managers()
    rule.release()
    assert (await asking).status_code == 204
    assert managers_before == []


async def test_the_end_lets_go_of_what_is_held(gitlab: FakeGitLab, wire: Wire, tmp_path: Any) -> None:
    async with FakeGitLab(tmp_path / "other") as other, httpx.AsyncClient(trust_env=False) as client:
        other.misbehave(".*", hold=True)
        asking = asyncio.ensure_future(client.get(f"{other.url}/api/v4/version"))
        await other.wait_for(lambda: other.calls("GET"))
    await asyncio.gather(asking, return_exceptions=True)
    assert asking.done()


async def test_calls_are_noted_with_their_answers(gitlab: FakeGitLab, wire: Wire) -> None:
    answer = await wire.client.get("/version", headers={"X-Request-Id": "req-1"})
    (call,) = gitlab.calls("GET", "/api/v4/version")
    assert (call.status, call.headers["x-request-id"], answer.headers["x-request-id"]) == (
        401,
        "req-1",
        "req-1",
    )
