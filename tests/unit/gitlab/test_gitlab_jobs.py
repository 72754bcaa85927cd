"""Job and runner calls: statuses, retries, and what becomes of each."""

from __future__ import annotations

import pytest
from gitlab_given import Counted, HeldSleep, Player, answer, playing

from firerunner.errors import BadAnswer, TokenRefused, Unreachable
from firerunner.gitlab import JobClient, ManagerRemoval, RunnerIdentity, RunnersClient, new_http

pytestmark = pytest.mark.anyio

BUSY = answer(503, b"", Retry_After="3")


async def test_keep_says_running_with_the_token_in_header_and_body() -> None:
    said = answer(200, b"200", Job_Status="canceling", X_GitLab_Trace_Update_Interval="9")
    async with playing(said) as p, new_http() as http:
        reply = await JobClient(p.url, http).keep(91, "glcbt-1")

    assert (reply.accepted, reply.gone, reply.job_status, reply.update_interval_s) == (
        True,
        False,
        "canceling",
        9.0,
    )
    assert not reply.over
    assert p.heard[0].head.startswith("PUT /api/v4/jobs/91 ")
    assert "job-token: glcbt-1" in p.heard[0].head.lower()
    assert p.heard[0].json == {"token": "glcbt-1", "state": "running"}


@pytest.mark.parametrize(
    ("response", "accepted", "gone", "over"),
    [
        (answer(200), True, False, False),
        (answer(202), True, False, False),
        (answer(200, Job_Status="canceled"), True, False, True),
        (answer(200, Job_Status="failed"), True, False, True),
        (answer(403, Job_Status="success"), False, True, True),
        (answer(404), False, True, True),
        (answer(400, b'{"error":"state is wrong"}'), False, False, False),
        (answer(409), False, False, False),
        (answer(200, b"<html>", Content_Type="text/html"), False, False, False),
    ],
)
async def test_a_reply_is_accepted_or_gone_or_says_its_trouble(
    response: bytes, accepted: bool, gone: bool, over: bool
) -> None:
    counted = Counted()
    async with playing(response) as p, new_http() as http:
        reply = await JobClient(p.url, http, count=counted).keep(91, "t")

    assert (reply.accepted, reply.gone, reply.over) == (accepted, gone, over)
    assert bool(reply.trouble) is (not accepted and not gone)
    assert len(counted.seen) == (0 if accepted else 1)


@pytest.mark.parametrize("response", [answer(429, Retry_After="40"), answer(500), answer(599), None])
async def test_keep_is_not_repeated_by_itself(response: bytes | None) -> None:
    sleep = HeldSleep()
    async with playing(response) as p, new_http() as http:
        with pytest.raises(Unreachable) as caught:
            await JobClient(p.url, http, sleep=sleep).keep(91, "t")

    assert caught.value.retry_after_s == (40.0 if response and b"40" in response else None)
    assert caught.value.remedy
    assert sleep.slept == []


async def test_fail_comes_again_when_gitlab_wishes() -> None:
    sleep, counted = HeldSleep(), Counted()
    async with playing(BUSY, None, answer(200)) as p, new_http() as http:
        reply = await JobClient(p.url, http, sleep=sleep, count=counted).fail(91, "t", exit_code=3)

    assert reply.accepted
    assert p.heard[-1].json == {
        "token": "t",
        "state": "failed",
        "failure_reason": "runner_system_failure",
        "exit_code": 3,
    }
    assert 3.0 <= sleep.slept[0] <= 3.3
    assert 0.5 <= sleep.slept[1] <= 1.0
    assert counted.seen == [("fail", "503"), ("fail", "RemoteProtocolError")]


async def test_fail_gives_up_after_its_tries_and_does_not_wait_out_a_long_wish() -> None:
    sleep = HeldSleep()
    async with playing(BUSY, BUSY, answer(429, Retry_After="600")) as p, new_http() as http:
        with pytest.raises(Unreachable):
            await JobClient(p.url, http, sleep=sleep).fail(91, "t", tries=2)
        with pytest.raises(Unreachable) as caught:
            await JobClient(p.url, http, sleep=sleep).fail(91, "t", tries=4)

    assert caught.value.retry_after_s == 600.0
    assert len(p.heard) == 3


async def test_a_line_for_the_author_goes_to_the_end_of_the_log() -> None:
    async with playing(answer(416, Range="0-120"), answer(202, Range="0-125")) as p, new_http() as http:
        assert await JobClient(p.url, http).append_trace(91, "t", None, "héll")

    assert ["content-range: 0-4" in one.head.lower() for one in p.heard] == [True, False]
    assert "content-range: 120-124" in p.heard[1].head.lower()
    assert p.heard[1].body == "héll".encode()


@pytest.mark.parametrize(
    "responses",
    [
        [answer(403)],
        [answer(416)],
        [answer(416, Range="nonsense")],
        [answer(416, Range="0-5"), answer(416, Range="0-9")],
        [None, None],
        [answer(500), answer(500)],
    ],
)
async def test_a_line_that_does_not_get_there_is_no_error(responses: list[bytes | None]) -> None:
    async with playing(*responses) as p, new_http() as http:
        assert not await JobClient(p.url, http, sleep=HeldSleep()).append_trace(91, "t", 0, "x")

    assert p.answers == []


@pytest.mark.parametrize(
    ("status", "removal"),
    [
        (204, ManagerRemoval.DELETED),
        (404, ManagerRemoval.ABSENT),
        (403, ManagerRemoval.REFUSED),
        (401, ManagerRemoval.REFUSED),
    ],
)
async def test_a_manager_record_is_deleted_or_was_not_there(status: int, removal: ManagerRemoval) -> None:
    async with playing(answer(status)) as p, new_http() as http:
        assert await RunnersClient(p.url, http).delete_manager("glrt-1", "fr-1") is removal

    assert p.heard[0].head.startswith("DELETE /api/v4/runners/managers ")
    assert p.heard[0].json == {"token": "glrt-1", "system_id": "fr-1"}


async def test_a_web_page_deletes_nothing() -> None:
    async with playing(answer(200, b"<html>", Content_Type="text/html")) as p, new_http() as http:
        with pytest.raises(BadAnswer, match="web page"):
            await RunnersClient(p.url, http).delete_manager("glrt-1", "fr-1")


async def verify(*responses: bytes) -> tuple[RunnerIdentity, Player]:
    async with playing(*responses) as p, new_http() as http:
        return await RunnersClient(p.url, http, sleep=HeldSleep()).verify("glrt-1"), p


async def test_verify_tells_whose_token_it_is() -> None:
    identity, player = await verify(BUSY, answer(200, b'{"id":5,"token":"glrt-1","token_expires_at":null}'))

    assert identity == RunnerIdentity(5, None)
    assert player.heard[-1].json == {"token": "glrt-1"}
    assert (await verify(answer(200, b"200")))[0] == RunnerIdentity(None, None)


async def test_verify_refused_names_the_remedy() -> None:
    with pytest.raises(TokenRefused, match="create the runner again"):
        await verify(answer(403, b'{"message":"403 Forbidden"}'))
    with pytest.raises(BadAnswer):
        await verify(answer(302, Location="https://login"))
