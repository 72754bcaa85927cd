"""The door on a real socket: GitLab's own way of sending, and clients who send as nobody should."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from door_given import JOB_HOOK, SIGNING, Given, gitlab

from firerunner.fakes.gitlab import FakeGitLab
from firerunner.serving import WEB_BOUNDS, served

pytestmark = pytest.mark.anyio
BODY = json.dumps(JOB_HOOK).encode()
HEAD = b"POST /webhook HTTP/1.1\r\nHost: door\r\nX-Gitlab-Token: s3cret\r\nContent-Length: %d\r\n\r\n"


class Wire:
    """The door, listening."""

    def __init__(self, given: Given, port: int) -> None:
        self.given = given
        self.url = f"http://127.0.0.1:{port}/webhook"
        self._port = port

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def post(self, headers: str, body: bytes = b"") -> bytes:
        """The whole answer to one request, until the connection is closed."""
        async with self.connected() as (reader, writer):
            head = f"POST /webhook HTTP/1.1\r\nHost: door\r\nConnection: close\r\n{headers}\r\n\r\n"
            writer.write(head.encode() + body)
            return await reader.read()


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    given = Given()
    given.configure(gitlab(secret="s3cret"), max_body=200_000, body_timeout=1.0)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    async with served(given.app, listener, bounds=WEB_BOUNDS):
        yield Wire(given, port)


async def test_gitlab_s_deliveries_are_accepted_and_wake(wire: Wire, tmp_path: Path) -> None:
    wire.given.configure(
        gitlab("plain", secret="s3cret"), gitlab("signing", secret="other", signing_token=SIGNING)
    )
    async with FakeGitLab(tmp_path) as fake:
        project = await fake.add_project("group/sample", {".gitlab-ci.yml": "job: {script: [x]}"})
        fake.add_hook(project, wire.url, "s3cret", pipeline_events=True)
        fake.add_hook(project, wire.url, "other", SIGNING, pipeline_events=True)
        stranger = fake.add_hook(project, wire.url, "guessed")
        fake.hooks.copies = 2
        await fake.run_pipeline(project)
        await fake.hooks.idle()

        answers = {hook.hook_id: hook.answer for hook in fake.hooks.deliveries}
        assert sorted(answers.values()) == [200, 200, 401]  # type: ignore[type-var]
        assert answers[stranger.id] == 401
    assert {hook.gitlab for hook in wire.given.woken} == {("plain",), ("signing",)}
    assert {hook.kind for hook in wire.given.woken} == {"build", "pipeline"}
    assert {hook.project_id for hook in wire.given.woken} == {project.id}
    assert "replayed" in wire.given.counted


async def test_a_chunked_hook_is_read(wire: Wire) -> None:
    half = len(BODY) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:half], BODY[half:], b""))

    answer = await wire.post("X-Gitlab-Token: s3cret\r\nTransfer-Encoding: chunked", chunks)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(wire.given.woken) == 1


async def test_an_endless_chunked_body_is_refused_and_the_sender_learns_why(wire: Wire) -> None:
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"

    answer = await wire.post("X-Gitlab-Token: s3cret\r\nTransfer-Encoding: chunked", chunk * 100)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"webhook.max_body" in answer


@pytest.mark.parametrize("size", [200_000 - 16_384, 200_000 - 16_383])
async def test_a_body_that_comes_with_its_head_is_bounded_too(wire: Wire, size: int) -> None:
    """All of it is here before it is looked at, so that no time-out and no count stands over it."""
    wire.given.configure(gitlab(secret="s3cret"), max_body=200_000 - 16_384, body_timeout=1.0)
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b" " * size)

    answer = await wire.post("X-Gitlab-Token: s3cret\r\nTransfer-Encoding: chunked", chunks)

    assert answer.startswith(b"HTTP/1.1 200 " if size == 200_000 - 16_384 else b"HTTP/1.1 413 ")


async def test_a_large_body_with_a_right_secret_is_sent_to_its_end_and_answered(wire: Wire) -> None:
    """As GitLab's client sends: everything, before it reads the answer."""
    size = 20_000_000

    answer = await wire.post(f"X-Gitlab-Token: s3cret\r\nContent-Length: {size}", b"x" * size)

    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_sender_who_does_not_finish_its_body_is_cut_off(wire: Wire) -> None:
    answer = await wire.post("X-Gitlab-Token: s3cret\r\nContent-Length: 100", b"half")

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert wire.given.counted == ["slow"]


async def test_a_stranger_who_waits_for_leave_to_send_is_refused_without(wire: Wire) -> None:
    answer = await wire.post("Expect: 100-continue\r\nContent-Length: 100000")

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in answer


async def test_a_sender_who_goes_away_is_no_error(wire: Wire) -> None:
    async with wire.connected() as (_, writer):
        writer.write(HEAD % 9 + b"x")
        await writer.drain()
        await asyncio.sleep(0.05)

    while not wire.given.counted:
        await asyncio.sleep(0.01)
    assert wire.given.counted == ["cut"]


async def test_hooks_may_share_a_connection(wire: Wire) -> None:
    async with wire.connected() as (reader, writer):
        for _ in range(2):
            writer.write(HEAD % len(BODY) + BODY)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(len(b'{"message":"accepted"}'))

    assert wire.given.counted == ["woke", "woke"]
