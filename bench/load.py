"""A client that costs little: HTTP/1.1 by hand over loopback, so that what is measured is the server.

Many connections at a time, each with one request in flight; the same client asks what is measured and its
floor.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

PIECE = bytes(256 * 1024)
LIMIT = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers by lower-case name, and how many bytes the body had."""

    status: int
    headers: dict[str, str]
    size: int


class Connection:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    async def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes = b"",
        *,
        pieces: int = 0,
        tail: bytes = b"",
    ) -> Answer:
        """One request and its answer. `pieces`: so many `PIECE` come between `body` and `tail`."""
        size = len(body) + pieces * len(PIECE) + len(tail)
        said = {"Host": self._host, "Content-Length": str(size), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self._writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        for _ in range(pieces):
            self._writer.write(PIECE)
            await self._writer.drain()
        self._writer.write(tail)
        return await self._answer()

    async def _answer(self) -> Answer:
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines[1:] if line)
        headers = {name.lower(): value for name, _, value in pairs}
        size = left = int(headers.get("content-length", "0"))
        while left:
            piece = await self._reader.read(min(left, LIMIT))
            if not piece:
                raise ConnectionError("the server has hung up in the middle of a body")
            left -= len(piece)
        return Answer(int(lines[0].split(" ")[1]), headers, size)


@contextlib.asynccontextmanager
async def connected(url: str, count: int) -> AsyncIterator[list[Connection]]:
    """So many connections to the server of a URL."""
    address = urlsplit(url)
    streams = [
        await asyncio.open_connection(address.hostname, address.port, limit=LIMIT) for _ in range(count)
    ]
    try:
        yield [Connection(reader, writer, address.netloc) for reader, writer in streams]
    finally:
        for _, writer in streams:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in streams), return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked many times."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


async def rate(
    url: str, requests: Callable[[], Iterable[Request]], *, connections: int, expect: int
) -> tuple[float, list[float]]:
    """Send them all; requests a second, and the seconds that each took. Any other status is an error."""
    async with connected(url, connections) as lines:
        waiting, took = iter(requests()), list[float]()

        async def work(line: Connection) -> None:
            for each in waiting:
                began = time.perf_counter()
                answer = await line.ask(each.method, each.path, each.headers, each.body)
                took.append(time.perf_counter() - began)
                if answer.status != expect:
                    raise RuntimeError(f"{each.method} {each.path} was answered {answer.status}")

        began = time.perf_counter()
        await asyncio.gather(*(work(line) for line in lines))
        return len(took) / (time.perf_counter() - began), took


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which that share of them lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
