"""Answers a guest's DNS queries: egress names ourselves, others by the host's name servers or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from firerunner.machines.qemu import names
from firerunner.machines.qemu.names import Question
from firerunner.machines.qemu.outward import Outward

RESOLV_CONF = Path("/etc/resolv.conf")
USUAL_SERVER = "127.0.0.1"
"""Who is asked where the file names nobody (resolv.conf(5))."""

MAX_WAITING = 64
"""More queries at once are dropped, as on any network."""

SERVER_TIMEOUT_S = 3.0
PAUSE_S = 0.05
MAX_RESPONSE_BYTES = 65535
ID_BYTES = 2


class Resolver:
    """The name service of one machine."""

    def __init__(self, sock: socket.socket, table: Mapping[str, str], outward: Outward | None) -> None:
        """`table`: the address by name of what the pool names; `outward`: what it allows besides."""
        self._sock = sock
        self._table = table
        self._outward = outward
        self._waiting: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer until cancelled."""
        try:
            while True:
                await self._next()
        finally:
            for task in self._waiting:
                task.cancel()

    async def _next(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            query, sender = await loop.sock_recvfrom(self._sock, names.MAX_QUERY_BYTES + 1)
        except OSError:
            await asyncio.sleep(PAUSE_S)
            return
        asked = names.question(query)
        if asked is None:
            return
        address = self._table.get(asked.name)
        if address is not None:
            self._send(names.response(query, asked, address), sender)
        elif self._outward is None:
            self._send(names.response(query, asked, code=names.NO_SUCH_NAME), sender)
        elif len(self._waiting) < MAX_WAITING:
            task = asyncio.create_task(self._look_up(self._outward, query, asked, sender))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _look_up(self, outward: Outward, query: bytes, asked: Question, sender: object) -> None:
        if outward.covers(asked.name):
            address = await outward.stand_in(asked.name)
            code = names.NO_SUCH_NAME if address is None else names.NO_ERROR
            self._send(names.response(query, asked, address, code), sender)
        elif not outward.resolves:
            self._send(names.response(query, asked, code=names.NO_SUCH_NAME), sender)
        elif asked.kind == names.AAAA:  # the guest's link speaks IPv4 only
            self._send(names.response(query, asked), sender)
        else:
            said = await _ask_host(query)
            self._send(said or names.response(query, asked, code=names.SERVER_FAILURE), sender)

    def _send(self, said: bytes, sender: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.sendto(said, sender)  # type: ignore[call-overload]


def name_servers() -> list[str]:
    """The addresses of the host's name servers, as the file has them now."""
    with contextlib.suppress(OSError):
        words = [line.split() for line in RESOLV_CONF.read_text(errors="replace").splitlines()]
        servers = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
        return servers or [USUAL_SERVER]
    return [USUAL_SERVER]


async def _ask_host(query: bytes) -> bytes | None:
    """The response of the first name server that gives one, under the query's own number."""
    for server in name_servers():
        with contextlib.suppress(OSError, TimeoutError):
            return query[:ID_BYTES] + (await _ask(server, query[ID_BYTES:]))[ID_BYTES:]
    return None


async def _ask(server: str, rest: bytes) -> bytes:
    """Under a number and from a port that nobody can guess. Raises OSError, TimeoutError."""
    loop = asyncio.get_running_loop()
    number = os.urandom(ID_BYTES)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.connect((server, names.PORT))
        await loop.sock_sendall(sock, number + rest)
        async with asyncio.timeout(SERVER_TIMEOUT_S):
            while True:
                said = await loop.sock_recv(sock, MAX_RESPONSE_BYTES)
                if said[:ID_BYTES] == number:
                    return said
