"""Serving in bounds: slow clients are cut off, honest ones are not, and there is room for them in a crowd."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_given import LIFE_S, SHORT, App, connected, serving

from firerunner.serving import Bounds, served
from firerunner.serving.crowd import Crowd

pytestmark = pytest.mark.anyio
HALF_A_HEAD = b"POST /webhook HTTP/1.1\r\nHost: door\r\nX-Gitlab-Tok"


@pytest.mark.parametrize("said", [b"", b"P", HALF_A_HEAD])
async def test_a_client_who_does_not_finish_its_head_is_cut_off(said: bytes) -> None:
    async with serving() as place, connected(place) as client:
        await client.say(said)

        assert await client.rest() == b""
        await place.emptied()


async def test_dripping_a_head_does_not_help() -> None:
    async def drip() -> None:
        while True:
            await client.say(b"X-More: x\r\n")
            await asyncio.sleep(SHORT.head_s / 10)

    async with serving() as place, connected(place) as client:
        await client.say(b"GET / HTTP/1.1\r\nHost: door\r\n")
        dripping = asyncio.create_task(drip())

        assert await client.rest() == b""
        dripping.cancel()
        assert not place.app.entered.is_set()


async def test_a_kept_connection_serves_on_and_its_next_head_has_to_be_finished_too() -> None:
    async with serving() as place, connected(place) as client:
        await client.say(b"GET /first HTTP/1.1\r\nHost: door\r\n\r\n")
        assert await client.answer() == b"/first"
        await asyncio.sleep(LIFE_S)
        await client.say(b"GET /second HTTP/1.1\r\nHost: door\r\n\r\n")
        assert await client.answer() == b"/second"
        await client.say(HALF_A_HEAD)

        assert await client.rest() == b""


async def test_a_request_that_comes_before_its_turn_ends_the_connection_with_the_answer_that_is_due() -> None:
    async with serving() as place, connected(place) as client:
        await client.say(b"GET /poll HTTP/1.1\r\nHost: door\r\n\r\nGET /next HTTP/1.1\r\nHost: door\r\n\r\n")
        await asyncio.sleep(LIFE_S)
        place.app.release.set()

        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.endswith(b"/poll")


async def test_requests_without_end_that_come_before_their_turn_cut_the_connection() -> None:
    async with serving() as place, connected(place) as client:
        await client.say(b"GET /poll HTTP/1.1\r\nHost: door\r\n\r\n")
        await client.say(b"GET /next HTTP/1.1\r\nHost: door\r\n\r\n" * 50_000)

        await place.emptied()


async def test_who_goes_away_behind_a_request_before_its_turn_is_missed() -> None:
    async with serving() as place:
        async with connected(place) as client:
            await client.say(b"GET /gone HTTP/1.1\r\nHost: door\r\n\r\nGET /next HTTP/1.1\r\n")
            await place.app.entered.wait()

        await place.emptied()
        await place.app.missed.wait()


async def test_a_long_poll_is_left_alone() -> None:
    async with serving() as place, connected(place) as client:
        await client.say(b"GET /poll HTTP/1.1\r\nHost: door\r\n\r\n")
        await asyncio.sleep(LIFE_S)
        place.app.release.set()

        assert await client.answer() == b"/poll"


@pytest.mark.parametrize("path", ["/upload", "/poll", "/flood"])
async def test_a_body_that_is_no_http_ends_the_request_and_is_no_line_in_the_log(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the answer, while it is worked on, and in the midst of the answer."""
    async with serving() as place, connected(place) as client:
        await client.say(f"PUT {path} HTTP/1.1\r\nHost: door\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        await place.app.entered.wait()
        await client.say(b"zz\r\nno chunk\r\n")
        await asyncio.sleep(SHORT.head_s / 3)
        place.app.release.set()

        status = b"HTTP/1.1 200" if path == "/flood" else b"HTTP/1.1 400"
        assert (await client.rest()).startswith(status)
        await place.emptied()
    assert caplog.records == []


async def test_a_slow_upload_is_left_to_its_application() -> None:
    async with serving() as place, connected(place) as client:
        await client.say(b"PUT /upload HTTP/1.1\r\nHost: door\r\nContent-Length: 9\r\n\r\n")
        for _ in range(9):
            await asyncio.sleep(LIFE_S / 9)
            await client.say(b"x")

        assert await client.answer() == b"/upload"
        assert place.app.uploaded == 9


async def test_an_application_is_told_whether_a_body_is_here_already() -> None:
    head = b"PUT /upload HTTP/1.1\r\nHost: door\r\nContent-Length: 3\r\n\r\n"
    async with serving() as place, connected(place) as client:
        for said, later in ((head + b"abc", b""), (head, b"abc"), (head + b"ab", b"c")):
            place.app.entered.clear()
            await client.say(said)
            await place.app.entered.wait()
            await client.say(later)
            assert await client.answer() == b"/upload"

    assert place.app.here == [True, False, False]
    assert place.app.uploaded == 9


async def test_who_goes_on_sending_after_the_answer_is_cut_off() -> None:
    async def drip() -> None:
        while True:
            await client.say(b"x")
            await asyncio.sleep(SHORT.head_s / 10)

    async with serving() as place, connected(place) as client:
        await client.say(b"PUT /refuse HTTP/1.1\r\nHost: door\r\nContent-Length: 1000000\r\n\r\n")
        assert await client.answer() == b"/refuse"
        dripping = asyncio.create_task(drip())

        assert await client.rest() == b""
        dripping.cancel()


async def test_who_does_not_read_its_answer_is_cut_off() -> None:
    async with serving() as place, connected(place, limit=1) as client:
        await client.say(b"GET /flood HTTP/1.1\r\nHost: door\r\n\r\n")
        await place.app.entered.wait()

        await place.emptied()


async def test_who_reads_its_answer_gets_all_of_it() -> None:
    async with serving() as place, connected(place, limit=65_536) as client:
        await client.say(b"GET /flood HTTP/1.1\r\nHost: door\r\n\r\n")

        assert len(await client.answer()) == 64 << 20


async def test_in_a_crowd_of_silent_clients_a_request_gets_through() -> None:
    patient = replace(SHORT, head_s=60.0, connections=4)
    async with serving(patient) as place, contextlib.AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(connected(place)) for _ in range(4)]
        client = await stack.enter_async_context(connected(place))
        await client.say(b"GET /here HTTP/1.1\r\nHost: door\r\n\r\n")

        assert await client.answer() == b"/here"
        assert await silent[0].rest() == b""
        assert place.handle.connections == 4


async def test_who_has_its_answer_gives_way() -> None:
    async with serving(replace(SHORT, head_s=60.0, connections=1)) as place, connected(place) as kept:
        await kept.say(b"GET /first HTTP/1.1\r\nHost: door\r\n\r\n")
        assert await kept.answer() == b"/first"
        async with connected(place) as client:
            await client.say(b"GET /second HTTP/1.1\r\nHost: door\r\n\r\n")

            assert await client.answer() == b"/second"
        assert await kept.rest() == b""


async def test_who_is_being_served_is_not_pushed_out() -> None:
    patient = replace(SHORT, head_s=60.0, connections=2)
    async with serving(patient) as place, contextlib.AsyncExitStack() as stack:
        polls = [await stack.enter_async_context(connected(place)) for _ in range(2)]
        for poll in polls:
            place.app.entered.clear()
            await poll.say(b"GET /poll HTTP/1.1\r\nHost: door\r\n\r\n")
            await place.app.entered.wait()
        late = await stack.enter_async_context(connected(place))

        assert await late.rest() == b""
        place.app.release.set()
        assert [await poll.answer() for poll in polls] == [b"/poll", b"/poll"]


async def test_too_many_headers_are_refused() -> None:
    headers = b"".join(b"X-%d: x\r\n" % number for number in range(101))
    async with serving() as place, connected(place) as client:
        await client.say(b"GET / HTTP/1.1\r\nHost: door\r\n" + headers + b"\r\n")

        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b"x-frame-options: deny" in answer.lower()
        assert not place.app.entered.is_set()


@pytest.mark.parametrize("length", [0, 3, 5, 100])
async def test_a_body_that_has_a_length_and_comes_in_chunks_is_refused(length: int) -> None:
    """Behind the gate GitLab would be told both; what is in front of us may have gone by the other one."""
    framings = f"Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n".encode()
    async with serving() as place, connected(place) as client:
        await client.say(b"PUT /upload HTTP/1.1\r\nHost: door\r\n" + framings + b"\r\n3\r\nabc\r\n0\r\n\r\n")

        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"\r\nconnection: close\r\n" in answer.lower()
        assert not place.app.entered.is_set()


async def test_a_flood_of_header_bytes_is_refused_in_one_piece_and_in_many() -> None:
    flood = b"GET / HTTP/1.1\r\nHost: door\r\nX-Flood: " + b"x" * 100_000
    async with serving() as place, connected(place) as whole, connected(place) as endless:
        await whole.say(flood + b"\r\n\r\n")
        await endless.say(flood)

        assert (await whole.rest()).startswith(b"HTTP/1.1 431 ")
        assert (await endless.rest()).startswith(b"HTTP/1.1 431 ")
        assert not place.app.entered.is_set()


async def test_what_is_no_http_is_refused_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as place, connected(place) as client:
        await client.say(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")

        assert (await client.rest()).startswith(b"HTTP/1.1 400 ")
    assert "Invalid HTTP" not in caplog.text


async def test_the_end_closes_idle_connections_and_lets_a_request_in_flight_end() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving(replace(SHORT, head_s=60.0)) as place:
            idle = await stack.enter_async_context(connected(place))
            poll = await stack.enter_async_context(connected(place))
            await poll.say(b"GET /poll HTTP/1.1\r\nHost: door\r\n\r\n")
            await place.app.entered.wait()
            asyncio.get_running_loop().call_later(0.2, place.app.release.set)

        assert await idle.rest() == b""
        assert await poll.answer() == b"/poll"
        assert place.handle.connections == 0


async def test_a_unix_socket_is_served_as_well(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(tmp_path / "web.sock"))
    listener.listen()
    async with served(App(), listener, bounds=SHORT):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "web.sock")
        writer.write(b"GET /unix HTTP/1.0\r\n\r\n")

        assert (await reader.read()).endswith(b"/unix")
        writer.close()
        await writer.wait_closed()


def test_every_bound_of_a_public_door_is_finite_and_sane() -> None:
    bounds = Bounds()

    assert 0 < bounds.head_s < bounds.stalled_s


class Visitor:
    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


@given(
    most=st.integers(1, 5),
    moves=st.lists(
        st.tuples(st.sampled_from(["enter", "serve", "wait", "leave"]), st.integers(0, 7)), max_size=80
    ),
)
def test_a_crowd_is_never_over_its_limit_and_drops_nobody_who_is_served(
    most: int, moves: list[tuple[str, int]]
) -> None:
    crowd, visitors = Crowd(most), [Visitor() for _ in range(8)]
    inside: set[int] = set()
    served_now: set[int] = set()
    for move, number in moves:
        before = len(crowd)
        match move:
            case "enter" if number not in inside:
                visitors[number].dropped = False
                entered = crowd.enter(visitors[number])
                assert entered or (before == most and served_now == inside)
                inside |= {number} if entered else set()
            case "serve" if number in inside:
                crowd.serve(visitors[number])
                served_now.add(number)
            case "wait":
                crowd.wait(visitors[number])
                served_now.discard(number)
            case "leave":
                crowd.leave(visitors[number])
                inside.discard(number)
                served_now.discard(number)
        dropped = {number for number in inside if visitors[number].dropped}
        assert not dropped & served_now
        inside -= dropped
        assert len(crowd) == len(inside) <= most
