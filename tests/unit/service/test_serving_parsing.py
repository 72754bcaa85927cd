"""What is taken for a request, byte by byte: no more than h11 would take, and the same of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import h11
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from serving_given import SHORT, connected, serving
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from firerunner.serving.crowd import Crowd
from firerunner.serving.protocol import BoundedProtocol

LINES = (
    b"GET / HTTP/1.1",
    b"PUT /a%20b?c=d?e HTTP/1.1",
    b"PATCH /a HTTP/1.0",
    b"GET /a  HTTP/1.1",
    b"GET /a\xff HTTP/1.1",
    b"GET /a HTTP/2.0",
    b"GET /a",
)
HEADERS = (
    b"Host: door",
    b"Host: other",
    b"Host:door ",
    b"Content-Length: 3",
    b"Content-Length: 03",
    b"Content-Length: 3, 3",
    b"Content-Length: +3",
    b"Content-Length: 0x3",
    b"Content-Length: 4",
    b"Content-Length:",
    b"content-length : 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: CHUNKED",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding: xchunked",
    b"Connection: close",
    b"Connection: Upgrade\r\nUpgrade: h2c",
    b"Expect: 100-continue",
    b"X-Odd: \xe9 \t ",
    b"X-Folded: a\r\n b",
    b"X-Nul: a\x00b",
    b"X-Bare: a\nX-Bare: b",
    b"X-Bare: a\rX-Bare: b",
    b": nameless",
    b"colonless",
    b" leading: b",
)
BODIES = (
    b"",
    b"abc",
    b"3\r\nabc\r\n0\r\n\r\n",
    b"3;x=y\r\nabc\r\n0\r\nHost: trailer\r\nJob-Token: t\r\n\r\n",
    b"3 \r\nabc\r\n0\r\n\r\n",
    b"3\nabc\n0\n\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"-3\r\nabc\r\n0\r\n\r\n",
    b"10000000000000003\r\nabc\r\n0\r\n\r\n",
)
ENDS = (b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n")
TEXTS = st.builds(
    lambda line, headers, end, body: line + end + b"".join(each + end for each in headers) + end + body,
    st.sampled_from(LINES),
    st.lists(st.sampled_from(HEADERS), max_size=5),
    st.sampled_from(ENDS),
    st.sampled_from(BODIES),
)


@dataclass
class Request:
    """The first of a connection; its body may be incomplete."""

    method: str = ""
    target: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = False


class Line(asyncio.Transport):
    """Leads nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self._closing = False

    def write(self, data: object) -> None:
        """What is said is not looked at."""

    def close(self) -> None:
        self._closing = True

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        """All is said at once."""

    def resume_reading(self) -> None:
        """All is said at once."""


async def by_ours(pieces: Sequence[bytes]) -> list[Request]:
    """What an application of ours is given, which ends the connection with its first answer."""
    got: list[Request] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        headers = [(name, b"chunked" if value == b"CHUNKED" else value) for name, value in scope["headers"]]
        request = Request(scope["method"], target, headers)
        got.append(request)
        message = {"more_body": True}
        while message.get("more_body") and (message := dict(await receive()))["type"] == "http.request":
            request.body += message["body"]
            request.whole = not message["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(app, ws="none", log_config=None, access_log=False, lifespan="off")
    protocol, line = BoundedProtocol(config, ServerState(), {}, SHORT, Crowd(1)), Line()
    protocol.connection_made(line)
    for piece in pieces:
        protocol.data_received(piece)
        for _ in range(3):
            await asyncio.sleep(0)
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)
    return got


def by_h11(text: bytes) -> Request | None:
    connection, request = h11.Connection(h11.SERVER), Request()
    connection.receive_data(text.replace(b"/a  HTTP", b"/a HTTP"))  # the one thing that ours is laxer in
    try:
        while (event := connection.next_event()) is not h11.NEED_DATA:
            match event:
                case h11.Request():
                    request.method, request.target = event.method.decode(), event.target
                    request.headers = [(bytes(name), bytes(value)) for name, value in event.headers]
                case h11.Data():
                    request.body += event.data
                case h11.EndOfMessage():
                    request.whole = True
                    break
    except h11.RemoteProtocolError:
        return request if request.method else None
    return request if request.method else None


@given(text=TEXTS, cuts=st.lists(st.integers(1, 200), max_size=3))
def test_whatever_is_let_in_is_read_as_h11_reads_it(text: bytes, cuts: list[int]) -> None:
    at = [0, *sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(at)]

    ours = asyncio.run(by_ours(pieces))

    for each in ours[:1]:
        theirs = by_h11(text)
        assert theirs is not None
        assert (each.method, each.target, each.headers) == (theirs.method, theirs.target, theirs.headers)
        if each.whole:
            assert (each.body, each.whole) == (theirs.body, theirs.whole)


@pytest.mark.anyio
async def test_what_comes_after_the_end_of_a_connection_is_not_looked_at() -> None:
    """TLS hands over what it had received when we closed."""
    first, second = (b"GET /%d HTTP/1.1\r\nHost: door\r\n\r\n" % number for number in (1, 2))

    assert [each.target for each in await by_ours([first, second])] == [b"/1"]


@given(cuts=st.lists(st.integers(1, 100), max_size=8))
def test_a_request_is_the_same_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    text = (
        b"PUT /a%20b?c=d HTTP/1.1\r\nHost: door\r\nX-Odd:  \xe9 \t\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nHost: trailer\r\n\r\n"
    )
    at = [0, *sorted({cut for cut in cuts if cut < len(text)}), len(text)]
    pieces = [text[begin:end] for begin, end in pairwise(at)]

    assert asyncio.run(by_ours(pieces)) == [
        Request(
            "PUT",
            b"/a%20b?c=d",
            [(b"host", b"door"), (b"x-odd", b"\xe9"), (b"transfer-encoding", b"chunked")],
            b"abcd",
            whole=True,
        )
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", b"no HTTP"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", b"HTTP/1.1"),
        (b"GET /\r\n\r\n", b"HTTP/1.1"),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", b"no HTTP"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"chunked"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", b"no HTTP"),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"chunked",
        ),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", b"no HTTP"),
        (
            b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na",
            b"upgrade",
        ),
    ],
)
async def test_what_could_be_read_in_two_ways_is_refused(said: bytes, why: bytes) -> None:
    async with serving() as place, connected(place) as client:
        await client.say(said)

        head, _, message = (await client.rest()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"\r\nconnection: close\r\n" in head
        assert why in message
        assert not place.app.entered.is_set()


@pytest.mark.anyio
async def test_who_asks_for_another_protocol_is_answered_in_ours_and_let_go() -> None:
    async with serving() as place, connected(place) as client:
        await client.say(b"GET /here HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nPRI *")

        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"/here")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "endless",
    [
        b"3;" + b"x" * 1_000_000,
        b"0\r\n" + b"X-Trailer: x\r\n" * 1_000,
        b"0\r\nX-Trailer: " + b"x" * 1_000_000,
        b"0" * 1_000_000,
    ],
)
async def test_what_stands_between_the_pieces_of_a_body_is_bounded(endless: bytes) -> None:
    async with serving() as place, connected(place) as client:
        await client.say(b"PUT /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await client.say(endless)

        await client.rest()
        await place.emptied()


@pytest.mark.anyio
@pytest.mark.parametrize("piece", [b"\r\n", b"GET /" + b"x" * 10_000, b"X"])
async def test_a_head_that_never_comes_is_bounded(piece: bytes) -> None:
    async with serving() as place, connected(place) as client:
        for _ in range(8):
            await client.say(piece * (16_384 // len(piece)))

        assert (await client.rest())[9:12] in {b"400", b"431", b""}
        assert not place.app.entered.is_set()
