"""Connections carried from the guest's side to the host's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from firerunner.machines.qemu import relay
from firerunner.machines.qemu.order import Listener

pytestmark = pytest.mark.anyio

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def relaying(port: int) -> AsyncIterator[int]:
    """A relay to a port of loopback; gives the port of the guest's side."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # what the kernel takes hides nothing
    it = relay.Relay([listening], [Listener("10.0.2.2", 80, "127.0.0.1", port)])
    try:
        yield listening.getsockname()[1]
    finally:
        await it.aclose()
        await asyncio.sleep(0)  # transports close one step later
        listening.close()


@asynccontextmanager
async def serving(serve: Serve, port: int = 0) -> AsyncIterator[int]:
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def echo_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only when the other side has finished: works with half-close only."""
    writer.write(await reader.read())
    writer.close()


async def talk(port: int, words: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(words)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_each_direction_ends_by_itself() -> None:
    async with serving(echo_at_the_end) as outside, relaying(outside) as inside:
        assert await talk(inside, b"hello") == b"hello"


async def test_the_last_bytes_reach_a_slow_reader_though_both_sides_have_finished() -> None:
    answer = bytes(1 << 20)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(answer)
        writer.close()

    async with serving(send) as outside, relaying(outside) as inside:
        with socket.socket() as guest:
            guest.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            guest.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(guest, ("127.0.0.1", inside))
            guest.shutdown(socket.SHUT_WR)

            got = 0
            while data := await loop.sock_recv(guest, 1 << 20):
                got += len(data)

    assert got == len(answer)


async def test_many_connections_at_once_do_not_mix() -> None:
    async with serving(echo_at_the_end) as outside, relaying(outside) as inside:
        words = [b"%d" % number * 50_000 for number in range(relay.GATE_CONNECTIONS * 2)]

        answers = await asyncio.gather(*(talk(inside, each) for each in words))

    assert answers == words


async def test_a_connection_waits_for_a_gate_that_is_away() -> None:
    port = free_port()
    async with relaying(port) as inside:
        reader, writer = await asyncio.open_connection("127.0.0.1", inside)
        writer.write(b"hello\n")
        await writer.drain()
        waiting = asyncio.create_task(reader.readline())

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        async with serving(greet, port):
            assert await waiting == b"hello\n"
        writer.close()


async def test_who_hangs_up_while_waiting_is_forgotten_with_what_he_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        guest = socket.create_connection(listening.getsockname())
        accepted, _ = listening.accept()
    carried = asyncio.create_task(
        relay.carry(accepted, relay.patient(Listener("10.0.2.2", 80, "127.0.0.1", free_port())))
    )
    guest.sendall(b"this is not to be delivered late")

    guest.close()

    await carried


async def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CONNECT_PATIENCE_S", 0.0)
    async with relaying(free_port()) as inside:
        reader, writer = await asyncio.open_connection("127.0.0.1", inside)

        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_cut_stream_is_not_taken_for_a_complete_one() -> None:
    async def cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half of it")
        await writer.drain()
        relay._reset(writer)

    async with serving(cut) as outside, relaying(outside) as inside:
        reader, writer = await asyncio.open_connection("127.0.0.1", inside)

        with pytest.raises(ConnectionResetError):
            while await reader.read(100):
                pass
        writer.close()


async def test_a_slow_reader_slows_the_writer_down() -> None:
    release = asyncio.Event()

    async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(b"%d" % len(await reader.read()))
        writer.close()

    async with serving(read_late) as outside, relaying(outside) as inside:
        loop = asyncio.get_running_loop()
        guest = socket.create_connection(("127.0.0.1", inside))
        guest.setblocking(False)
        sent, chunk = 0, bytes(1 << 20)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                while sent < 1 << 30:
                    await loop.sock_sendall(guest, chunk)
                    sent += len(chunk)
        assert sent < 64 << 20
        release.set()
        guest.shutdown(socket.SHUT_WR)

        total = int(await loop.sock_recv(guest, 100))
        guest.close()

    assert total >= sent


async def test_connections_beyond_the_limit_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "GATE_CONNECTIONS", 1)
    arrived = asyncio.Queue[asyncio.StreamWriter]()

    async def keep(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.put_nowait(writer)

    async with serving(keep) as outside, relaying(outside) as inside:
        _, first = await asyncio.open_connection("127.0.0.1", inside)
        _, second = await asyncio.open_connection("127.0.0.1", inside)
        one = await arrived.get()
        assert arrived.empty()

        first.close()
        one.close()

        two = await arrived.get()
        two.close()
        second.close()
