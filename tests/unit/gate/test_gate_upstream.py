"""GitLab in trouble, artifacts in both directions, redirects, and the gate while it starts."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from gate_given import (
    DEP,
    DEP_TOKEN,
    JOB,
    A,
    GitLabDouble,
    World,
    usual_facts,
)
from starlette.types import Receive, Scope, Send

from firerunner.errors import LedgerError
from firerunner.gate import JobGone
from firerunner.ledger import JobState

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


async def test_while_it_starts_every_path_is_503(world: World) -> None:
    guest = await world.running()
    world.gate.ready = False

    responses = [
        await guest.booted(),
        await guest.ask(),
        await guest.update(),
        await guest.trace(),
        await guest.upload(),
        await guest.http.get("/anything"),
    ]

    assert {(one.status_code, one.headers["retry-after"]) for one in responses} == {(503, "1")}


@pytest.mark.parametrize("status", [500, 502, 503, 429])
async def test_gitlabs_own_trouble_is_passed_on_with_its_retry_after(world: World, status: int) -> None:
    guest = await world.running()
    world.gitlab.on("PATCH", f"jobs/{JOB}/trace", status, b"busy", Retry_After="30", X_Request_Id="r-9")

    response = await guest.trace()

    assert (response.status_code, response.headers["retry-after"], response.content) == (
        status,
        "30",
        b"busy",
    )
    assert response.headers["x-request-id"] == "r-9"


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def test_a_gitlab_that_hangs_up_or_is_not_there_is_503_and_never_502(world: World) -> None:
    guest = await world.running()
    gitlab = world.gate._desk.gitlab("gitlab")
    calls = (guest.update, guest.trace, guest.upload, guest.download)
    alive = gitlab.base_url
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        gitlab.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        silent = [await call() for call in calls]
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        gitlab.base_url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        absent = [await call() for call in calls]

    assert {(one.status_code, one.headers["retry-after"]) for one in [*silent, *absent]} == {(503, "2")}
    assert len([one for one in world.counts if one[0] == "upstream"]) == 8
    assert ("upstream", "ConnectError") in world.counts
    gitlab.base_url = alive
    assert (await guest.trace()).status_code == 202


async def test_a_web_page_in_place_of_gitlabs_word_does_not_end_a_job(world: World) -> None:
    guest = await world.running()
    world.gitlab.on("PUT", f"jobs/{JOB}", 200, b"<html>log in", Content_Type="text/html")

    response = await guest.update("success")

    job = await world.ledger.job(JOB)
    assert response.status_code == 503
    assert job is not None
    assert job.state is JobState.RUNNING


@pytest.mark.parametrize(
    ("status", "job_status", "gone"),
    [
        (403, None, JobGone(JOB, A, 403)),
        (404, None, JobGone(JOB, A, 404)),
        (200, "canceled", JobGone(JOB, A, 200, "canceled")),
        (403, "failed", JobGone(JOB, A, 403, "failed")),
    ],
)
async def test_gitlab_giving_the_job_up_is_passed_on_and_told_once(
    world: World, status: int, job_status: str | None, gone: JobGone
) -> None:
    guest = await world.running()
    headers = {"Job_Status": job_status} if job_status else {}
    world.gitlab.on("PUT", f"jobs/{JOB}", status, **headers)

    responses = [await guest.update(), await guest.update()]

    assert [one.status_code for one in responses] == [status, status]
    assert [one.headers.get("job-status") for one in responses] == [job_status, job_status]
    assert world.events == [gone]


async def test_a_404_to_a_trace_patch_is_not_the_end(world: World) -> None:
    guest = await world.running()
    world.gitlab.on("PATCH", f"jobs/{JOB}/trace", 404)

    response = await guest.trace()

    assert response.status_code == 404
    assert world.events == []


async def test_a_ledger_in_trouble_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = await world.assigned()

    async def broken(machine_id: str) -> None:
        raise LedgerError("disk full")

    monkeypatch.setattr(world.ledger, "machine", broken)
    response = await guest.ask()

    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    monkeypatch.undo()
    assert (await guest.ask()).status_code == 201


async def test_a_ledger_in_trouble_does_not_keep_gitlabs_answer_from_the_guest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = await world.running()

    async def broken(*args: object, **more: object) -> None:
        raise LedgerError("disk full")

    monkeypatch.setattr(world.ledger, "move_job", broken)
    response = await guest.update("success")

    assert response.status_code == 200
    assert ("fault", "ledger") in world.counts


async def blocks(count: int, digest: hashlib._Hash, peak: list[int]) -> AsyncIterator[bytes]:
    for number in range(count):
        block = number.to_bytes(4, "big") * (64 * 1024 // 4)
        digest.update(block)
        peak.append(tracemalloc.get_traced_memory()[0])
        yield block


async def test_50_mib_of_artifacts_stream_up_with_flat_memory(world: World) -> None:
    guest = await world.running()
    received = hashlib.sha256()
    sent, peak = hashlib.sha256(), []

    async def take(double: GitLabDouble, scope: Scope, receive: Receive, send: Send) -> None:
        more = True
        while more:
            message = await receive()
            received.update(message.get("body", b""))
            more = message.get("more_body", False)
        await double.reply(send, double.replies["created"])

    world.gitlab.on("POST", "created", 201, b'"201"')
    world.gitlab.replies["created"] = world.gitlab.replies["POST /api/v4/created"]
    world.gitlab.scripts[f"POST /api/v4/jobs/{JOB}/artifacts"] = take
    tracemalloc.start()
    try:
        response = await guest.upload(blocks(800, sent, peak))
    finally:
        tracemalloc.stop()

    assert response.status_code == 201
    assert received.hexdigest() == sent.hexdigest()
    assert max(peak) - peak[0] < 6 * MIB


async def test_50_mib_of_artifacts_stream_down_with_flat_memory(world: World) -> None:
    guest = await world.running()
    sent, peak = hashlib.sha256(), []

    async def give(double: GitLabDouble, scope: Scope, receive: Receive, send: Send) -> None:
        await double.listen(scope, receive)
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", b"application/zip"),
                    (b"content-length", str(800 * 64 * 1024).encode()),
                ],
            }
        )
        async for block in blocks(800, sent, peak):
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    world.gitlab.scripts[f"GET /api/v4/jobs/{DEP}/artifacts"] = give
    received, size = hashlib.sha256(), 0
    tracemalloc.start()
    try:
        async with guest.http.stream(
            "GET", guest.path(f"api/v4/jobs/{DEP}/artifacts"), headers={"JOB-TOKEN": DEP_TOKEN}
        ) as response:
            async for chunk in response.aiter_raw():
                received.update(chunk)
                size += len(chunk)
    finally:
        tracemalloc.stop()

    assert (response.status_code, size) == (200, 800 * 64 * 1024)
    assert response.headers["content-length"] == str(size)
    assert received.hexdigest() == sent.hexdigest()
    assert max(peak) - peak[0] < 6 * MIB


async def test_a_guest_that_dies_in_an_upload_leaves_gitlab_no_whole_body(world: World) -> None:
    guest = await world.running()
    begun, died = asyncio.Event(), asyncio.Event()
    never = asyncio.Event()

    async def take(double: GitLabDouble, scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            begun.set()
            assert message["more_body"]
        died.set()

    async def half() -> AsyncIterator[bytes]:
        yield b"half"
        await never.wait()

    world.gitlab.scripts[f"POST /api/v4/jobs/{JOB}/artifacts"] = take
    uploading = asyncio.create_task(guest.upload(half()))
    await begun.wait()

    uploading.cancel()

    async with asyncio.timeout(10):
        await died.wait()
    assert (await guest.trace()).status_code == 202


async def test_a_download_that_breaks_off_is_not_taken_for_whole(world: World) -> None:
    guest = await world.running()

    async def give_half(double: GitLabDouble, scope: Scope, receive: Receive, send: Send) -> None:
        await double.listen(scope, receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ConnectionResetError

    world.gitlab.scripts[f"GET /api/v4/jobs/{DEP}/artifacts"] = give_half

    with pytest.raises(httpx.RemoteProtocolError):
        await guest.download()


async def test_a_guest_that_hangs_up_ends_its_download(world: World) -> None:
    guest = await world.running()
    ended = asyncio.Event()

    async def give_for_ever(double: GitLabDouble, scope: Scope, receive: Receive, send: Send) -> None:
        await double.listen(scope, receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        ended.set()

    world.gitlab.scripts[f"GET /api/v4/jobs/{DEP}/artifacts"] = give_for_ever
    async with guest.http.stream(
        "GET", guest.path(f"api/v4/jobs/{DEP}/artifacts"), headers={"JOB-TOKEN": DEP_TOKEN}
    ) as response:
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"first"
        await chunks.aclose()  # type: ignore[attr-defined]

    async with asyncio.timeout(10):
        await ended.wait()


async def test_artifacts_go_to_gitlab_itself_where_the_guest_may(world: World) -> None:
    guest = await world.running()
    machine = await world.ledger.machine(A)
    assert machine is not None
    world.facts[A] = replace(usual_facts(machine), artifacts_url=world.gitlab_url)
    world.gate._ties.drop(A)
    world.gitlab.heard.clear()

    uploaded = await guest.upload(b"x" * MIB, query="artifact_format=zip&artifact_type=archive")
    downloaded = await guest.download(query="?direct_download=true")

    assert uploaded.status_code == 307
    assert uploaded.headers["location"] == (
        f"{world.gitlab_url}/api/v4/jobs/{JOB}/artifacts?artifact_format=zip&artifact_type=archive"
    )
    assert downloaded.status_code == 307
    assert downloaded.headers["location"].endswith(f"/api/v4/jobs/{DEP}/artifacts?direct_download=true")
    assert world.gitlab.heard == []
    assert (await guest.upload(token="guessed")).status_code == 403


async def test_a_redirect_is_read_by_a_client_that_is_still_sending(world: World) -> None:
    guest = await world.running()
    machine = await world.ledger.machine(A)
    assert machine is not None
    world.facts[A] = replace(usual_facts(machine), artifacts_url=world.gitlab_url)
    world.gate._ties.drop(A)

    response = await guest.upload(blocks(320, hashlib.sha256(), []))

    assert response.status_code == 307
    assert response.headers["connection"] == "close"


async def test_gitlabs_redirect_to_its_object_storage_is_passed_on(world: World) -> None:
    guest = await world.running()
    machine = await world.ledger.machine(A)
    assert machine is not None
    world.facts[A] = replace(usual_facts(machine), object_storage=True)
    world.gate._ties.drop(A)
    world.gitlab.on("GET", f"jobs/{DEP}/artifacts", 302, b"", Location="http://store.test/a?sig=1")

    response = await guest.download(query="?direct_download=true")

    assert (response.status_code, response.headers["location"]) == (302, "http://store.test/a?sig=1")
    assert world.gitlab.said("GET", f"jobs/{DEP}/artifacts")[0].query == "direct_download=true"


@pytest.mark.parametrize("status", [201, 400, 403, 405, 413, 503])
async def test_an_uploads_answer_is_passed_on(world: World, status: int) -> None:
    guest = await world.running()
    world.gitlab.on(
        "POST", f"jobs/{JOB}/artifacts", status, b'{"message":"m"}', Content_Type="application/json"
    )

    response = await guest.upload()

    assert (response.status_code, response.content) == (status, b'{"message":"m"}')
    [heard] = world.gitlab.said("POST", f"jobs/{JOB}/artifacts")
    assert (heard.body, heard.headers["content-type"]) == (b"zip", "multipart/form-data; boundary=b")
    assert heard.query == "artifact_format=zip"
    assert world.events == []


async def test_a_trace_patch_costs_no_query(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = await world.running()
    await guest.trace()

    async def unwanted(*args: object, **more: object) -> None:
        raise AssertionError

    reads = ("machine", "job_of_machine", "tied", "offered", "payload")
    for name in (*reads, "move_job", "set_trace_bytes"):
        monkeypatch.setattr(world.ledger, name, unwanted)

    assert [(await guest.trace()).status_code for _ in range(3)] == [202, 202, 202]


async def test_a_growing_trace_is_written_down_now_and_then(world: World, clock: object) -> None:
    guest = await world.running()
    world.gitlab.on("PATCH", f"jobs/{JOB}/trace", 202, b"", Range="0-500")
    await guest.trace()
    before = await world.ledger.job(JOB)
    clock.now += 10  # type: ignore[attr-defined]
    await guest.trace()
    after = await world.ledger.job(JOB)

    assert before is not None
    assert after is not None
    assert (before.trace_bytes, after.trace_bytes) == (0, 500)
