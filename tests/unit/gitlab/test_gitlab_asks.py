"""The ask: what is sent, and how each thing that can come back is told apart."""

from __future__ import annotations

import gzip
import json

import httpx
import pytest
from gitlab_given import Counted, answer, nobody, playing

from firerunner.gitlab import AskedJob, AskedNothing, Raced, Refused, RunnerClient, Trouble, asks, new_http

pytestmark = pytest.mark.anyio

INFO = {
    "name": "gitlab-runner",
    "version": "19.4.0",
    "executor": "shell",
    "features": {"cancel_gracefully": True, "two_phase_job_commit": True, "session": True},
    "config": {"gpus": ""},
    "labels": {"a": "b"},
    "session": {"url": "https://never"},
}


async def ask(*answers: bytes | None, last_update: str | None = None) -> tuple[object, list, list]:
    counted = Counted()
    async with playing(*answers) as player, new_http() as http:
        got = await RunnerClient(player.url, http, count=counted).ask("glrt-1", "fr-1", INFO, last_update)
    return got, player.heard, counted.seen


async def test_the_ask_repeats_the_recorded_info_whole_but_for_what_must_not_be_promised() -> None:
    _, [heard], _ = await ask(answer(204), last_update="abc")

    assert heard.head.startswith("POST /api/v4/jobs/request HTTP/1.1")
    assert "runner-token: glrt-1" in heard.head.lower()
    assert heard.json == {
        "info": {
            "name": "gitlab-runner",
            "version": "19.4.0",
            "executor": "shell",
            "features": {"cancel_gracefully": True, "two_phase_job_commit": False, "session": True},
            "config": {"gpus": ""},
            "labels": {"a": "b"},
        },
        "token": "glrt-1",
        "system_id": "fr-1",
        "last_update": "abc",
    }


async def test_a_gitlab_under_a_path_is_asked_there() -> None:
    async with playing(answer(204)) as player, new_http() as http:
        await RunnerClient(f"{player.url}/gitlab/", http).ask("t", "s", {})

    assert player.heard[0].head.startswith("POST /gitlab/api/v4/jobs/request ")


async def test_a_job_comes_as_the_bytes_that_gitlab_sent() -> None:
    raw = b'{"id": 1,\n "token":"t"}'

    got, _, counted = await ask(answer(201, raw, Content_Type="application/json"))

    assert got == AskedJob(raw, complete=True)
    assert counted == []


async def test_a_compressed_job_is_unpacked() -> None:
    got, _, _ = await ask(answer(201, gzip.compress(b"{}"), Content_Encoding="gzip"))

    assert got == AskedJob(b"{}", complete=True)


async def test_what_came_of_a_cut_job_is_kept() -> None:
    got, _, counted = await ask(answer(201, b'{"id":1,"token":"t","jo', length=5000))

    assert got == AskedJob(b'{"id":1,"token":"t","jo', complete=False)
    assert counted == [("ask", "RemoteProtocolError"), ("ask", "cut")]


async def test_an_endless_job_is_kept_up_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asks, "MAX_ANSWER_BYTES", 10)

    got, _, _ = await ask(answer(201, b"x" * 100))

    assert isinstance(got, AskedJob)
    assert not got.complete


async def test_no_job_gives_the_value_for_the_next_ask() -> None:
    assert (await ask(answer(204, X_GitLab_Last_Update="v2")))[0] == AskedNothing("v2")
    assert (await ask(answer(204)))[0] == AskedNothing(None)


@pytest.mark.parametrize("status", [401, 403, 422])
async def test_a_refusal_carries_gitlabs_words(status: int) -> None:
    body = json.dumps({"message": f"{status} Forbidden"}).encode()

    got, _, counted = await ask(answer(status, body, Content_Type="application/json"))

    assert got == Refused(status, f"{status} Forbidden")
    assert counted == [("ask", str(status))]


async def test_a_lost_race_for_a_job_is_neither_trouble_nor_nothing() -> None:
    got, _, counted = await ask(answer(409, b'{"message":"409 Conflict"}'))

    assert isinstance(got, Raced)
    assert "409 Conflict" in got.message
    assert counted == [("ask", "409")]


@pytest.mark.parametrize(
    ("response", "retry_after_s", "maybe_assigned"),
    [
        (answer(429, b"", Retry_After="17"), 17.0, False),
        (answer(500, b"oops"), None, True),
        (answer(502, b"<html>", Content_Type="text/html"), None, True),
        (answer(503, b"", Retry_After="5"), 5.0, True),
        (answer(504), None, True),
        (answer(521), None, True),
        (answer(200, b"<html>log in</html>", Content_Type="text/html"), None, False),
        (answer(302, b"", Location="https://login"), None, False),
        (answer(404, b"nope"), None, False),
        (None, None, True),
        (b"SSH-2.0-OpenSSH\r\n", None, True),
    ],
)
async def test_trouble_says_whether_a_job_may_have_been_assigned(
    response: bytes | None, retry_after_s: float | None, maybe_assigned: bool
) -> None:
    got, heard, counted = await ask(response)

    assert isinstance(got, Trouble)
    assert (got.retry_after_s, got.maybe_assigned) == (retry_after_s, maybe_assigned)
    assert len(heard) == 1
    assert len(counted) == 1


async def test_a_gitlab_that_is_not_there_assigned_nothing() -> None:
    with nobody() as url:
        async with new_http() as http:
            got = await RunnerClient(url, http).ask("t", "s", INFO)

    assert isinstance(got, Trouble)
    assert not got.maybe_assigned
    assert url in got.message


@pytest.mark.parametrize(
    ("error", "maybe_assigned"),
    [
        (httpx.ReadTimeout, True),
        (httpx.ReadError, True),
        (httpx.WriteError, True),
        (httpx.ConnectTimeout, False),
        (httpx.PoolTimeout, False),
    ],
)
async def test_an_ask_that_was_never_sent_assigned_nothing(
    error: type[httpx.TransportError], maybe_assigned: bool
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error("x", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as http:
        got = await RunnerClient("http://gitlab.test", http).ask("t", "s", INFO)

    assert isinstance(got, Trouble)
    assert got.maybe_assigned is maybe_assigned


async def test_an_ask_waits_longer_than_the_longest_long_poll() -> None:
    seen: list[httpx.Request] = []

    def nothing(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204)

    async with httpx.AsyncClient(transport=httpx.MockTransport(nothing)) as http:
        await RunnerClient("http://gitlab.test", http).ask("t", "s", INFO)

    assert seen[0].extensions["timeout"] == {"connect": 5.0, "read": 90.0, "write": 30.0, "pool": 5.0}


async def test_secrets_do_not_show_in_what_is_printed() -> None:
    assert "canary" not in repr(AskedJob(b"canary"))
