"""A gate of a few lines for benches of machines: notes when each guest answers, and lets it wait."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator

from firerunner.gate import GuestFacts
from firerunner.gate.welcome import welcome

_CALL = re.compile(rb"POST /m/(fr-[a-z0-9]{12})/(guest/booted|api/v4/jobs/request)")


class WaitingGate:
    """Answers `booted`, and holds each runner's ask open for as long as the gate is there."""

    def __init__(self) -> None:
        self.address = ""
        self.booted_at: dict[str, float] = {}
        """On the monotonic clock, by machine id."""
        self.asked: set[str] = set()
        self._heard = asyncio.Condition()

    async def all_booted(self, machine_ids: list[str]) -> None:
        """Wait until each of them has said `booted`."""
        async with self._heard:
            await self._heard.wait_for(lambda: self.booted_at.keys() >= set(machine_ids))

    async def has_asked(self, machine_id: str) -> None:
        """Wait until the machine's runner waits for a job."""
        async with self._heard:
            await self._heard.wait_for(lambda: machine_id in self.asked)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        call = _CALL.match(head)
        if call is None:
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return
        machine_id = call[1].decode()
        async with self._heard:
            if call[2] == b"guest/booted":
                self.booted_at.setdefault(machine_id, time.monotonic())
            else:
                self.asked.add(machine_id)
            self._heard.notify_all()
        if call[2] != b"guest/booted":
            await reader.read()  # the guest hangs up first
            return
        url = f"http://10.0.2.2/m/{machine_id}"
        body = welcome(machine_id, "of-nobody", GuestFacts(url, url), epoch_s=int(time.time()))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


@contextlib.asynccontextmanager
async def waiting_gate() -> AsyncIterator[WaitingGate]:
    """The gate on a free port of loopback."""
    gate = WaitingGate()
    server = await asyncio.start_server(gate.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    gate.address = f"{host}:{port}"
    try:
        yield gate
    finally:
        server.close()
