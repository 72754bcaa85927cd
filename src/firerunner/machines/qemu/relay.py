"""Carries a guest's connections from inside its network to the gate and the pool's egress.

The listening sockets are inside the machine's network namespace, the outgoing ones are made in the
host's. Bytes pass unread; each direction ends by itself (half-close), and a slow reader slows the
writer down. While the gate or a destination refuses, a new connection waits: that is how a restart
of the controller goes unnoticed in the guest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from firerunner.machines.qemu.order import Listener
from firerunner.machines.qemu.outward import ATTEMPT_TIMEOUT_S, Outward, Stream

GATE_CONNECTIONS = 64
EGRESS_CONNECTIONS = 192
UPLINK_CONNECTIONS = 512
"""A job that opens connections without end must not close its own machine's way to the gate."""

CHUNK_BYTES = 65536

CONNECT_PATIENCE_S = 300.0
"""How long a new connection is held while nobody answers on the host's side."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0

TCP_ESTABLISHED = 1
"""First byte of struct tcp_info, <linux/tcp.h>."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""struct linger: closing sends a reset, so that a cut stream is not taken for a complete one."""

Connect = Callable[[socket.socket], Awaitable[Stream | None]]
"""Makes the host's side of a guest's connection; None if it cannot be made."""


class Relay:
    """All connections of one machine."""

    def __init__(self, listening: list[socket.socket], listeners: list[Listener]) -> None:
        """The first listener is the gate's."""
        self._tasks: set[asyncio.Task[None]] = set()
        gate, egress = asyncio.Semaphore(GATE_CONNECTIONS), asyncio.Semaphore(EGRESS_CONNECTIONS)
        for number, (sock, listener) in enumerate(zip(listening, listeners, strict=True)):
            self._start(self._accept(sock, patient(listener), egress if number else gate))

    def lead_outward(self, uplink: socket.socket, outward: Outward) -> None:
        """Carry also what the packet filter hands over."""
        self._start(self._accept(uplink, outward.connect, asyncio.Semaphore(UPLINK_CONNECTIONS)))

    async def aclose(self) -> None:
        """Cut everything: the machine has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, listening: socket.socket, connect: Connect, room: asyncio.Semaphore) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await room.acquire()
            try:
                guest, _ = await loop.sock_accept(listening)
            except OSError:
                room.release()
                await asyncio.sleep(LONGEST_PAUSE_S)
                continue
            self._start(carry(guest, connect)).add_done_callback(lambda _task: room.release())


async def carry(guest: socket.socket, connect: Connect) -> None:
    """One connection of the guest, from accept to the end."""
    with contextlib.ExitStack() as undo:
        undo.callback(guest.close)
        outer = await connect(guest)
        if outer is None:
            guest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            return
        undo.callback(outer[1].close)
        inner = await asyncio.open_connection(sock=guest)
        undo.pop_all()
    writers = (inner[1], outer[1])
    for writer in writers:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(inner[0], outer[1]))
            both.create_task(_pump(outer[0], inner[1]))
    except* OSError:
        for writer in writers:
            _reset(writer)
    finally:
        for writer in writers:
            writer.close()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()  # what is still in its buffer goes out first


def patient(listener: Listener) -> Connect:
    """Connects on the host's side, trying again while the guest waits.

    None when patience is over or the guest has hung up. A guest that hangs up while it waits must not
    have its request delivered later: it has asked again meanwhile, and some requests count once.
    """

    async def connect(guest: socket.socket) -> Stream | None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + CONNECT_PATIENCE_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    return await asyncio.open_connection(listener.to_host, listener.to_port)
            except (OSError, UnicodeError):
                await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            if loop.time() > give_up_at or _hung_up(guest):
                return None

    return connect


def _hung_up(guest: socket.socket) -> bool:
    return guest.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, until its end, which is passed on."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()
