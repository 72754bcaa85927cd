"""A gate for test guests: hands out one script, and takes in what the script printed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class TestGate:
    """Listens on loopback. `booted` and `report` are what tests wait for."""

    script: str = "true"
    address: str = ""
    requests: list[str] = field(default_factory=list)
    credentials: set[str] = field(default_factory=set)
    booted: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    report: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            writer.close()
            return
        request, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.requests.append(request)
        self.credentials.add(headers.get("authorization", ""))
        answer = await self._answer(request.split()[1], body)
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()
        writer.close()

    async def _answer(self, path: str, body: bytes) -> bytes:
        if path.endswith("/guest/booted"):
            self.booted.set()
            await self.go.wait()
            return self.script.encode()
        self.report.put_nowait(body.decode())
        return b""


@asynccontextmanager
async def serving(script: str = "true", *, hold: bool = False, port: int = 0) -> AsyncIterator[TestGate]:
    """A listening gate. With `hold` a guest gets its script only when `go` is set."""
    gate = TestGate(script)
    if not hold:
        gate.go.set()
    listens = "0.0.0.0" if os.environ.get("FLINTLOCK_HERE") else "127.0.0.1"
    server = await asyncio.start_server(gate.serve, listens, port)
    gate.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield gate
    finally:
        gate.go.set()
        server.close()
