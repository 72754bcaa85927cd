"""Given: a server on a real socket that plays back bytes, and remembers what it was sent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Heard:
    """One request."""

    head: str
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Player:
    """Answers the next connection's request with the next bytes, then closes the connection.

    None closes it without an answer.
    """

    answers: list[bytes | None]
    heard: list[Heard] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next(
                (
                    int(line.split(":")[1])
                    for line in head.splitlines()
                    if line.lower().startswith("content-length:")
                ),
                0,
            )
            self.heard.append(Heard(head, await reader.readexactly(length)))
            answer = self.answers.pop(0)
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def playing(*answers: bytes | None) -> AsyncIterator[Player]:
    player = Player(list(answers))
    server = await asyncio.start_server(player.serve, "127.0.0.1", 0)
    player.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield player
    finally:
        server.close()
        await server.wait_closed()


def answer(status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> bytes:
    """A response; `length` may lie about the body's."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def nobody() -> Iterator[str]:
    """A URL where nobody listens, and nobody else can while the block lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@dataclass
class Counted:
    """The `count` hook."""

    seen: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, activity: str, kind: str) -> None:
        self.seen.append((activity, kind))


@dataclass
class HeldSleep:
    """Sleeps no time, and remembers how long it should have been."""

    slept: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
