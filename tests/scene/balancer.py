"""A TCP load balancer: connections go to controllers in turn, and may be cut."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence

_CHUNK = 65_536


class Balancer:
    """Between the outside and the controllers. `cut_share` of the connections end after some bytes."""

    def __init__(self, backends: Sequence[int], seed: int = 0) -> None:
        """`backends`: ports of this computer."""
        self.backends = list(backends)
        self.cut_share = 0.0
        self.cut_after = 4000
        """A connection to be cut ends after at most so many bytes."""
        self.cuts = 0
        self.port = 0
        self._next = 0
        self._random = random.Random(seed)
        self._carrying: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._carrying.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await self._connect()
        left = self._random.randrange(self.cut_after) if self._random.random() < self.cut_share else None
        budget = [left]
        try:
            ways = [
                asyncio.create_task(self._pump(reader, ours, budget)),
                asyncio.create_task(self._pump(theirs, writer, budget)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                if budget[0] is None or budget[0] > 0:
                    await asyncio.wait(ways, timeout=1.0)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            ours.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in self.backends:
            self._next = (self._next + 1) % len(self.backends)
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", self.backends[self._next])
        raise ConnectionRefusedError

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: list[int | None]
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if budget[0] is not None:
                    chunk, budget[0] = chunk[: budget[0]], budget[0] - len(chunk)
                writer.write(chunk)
                await writer.drain()
                if budget[0] is not None and budget[0] <= 0:
                    self.cuts += 1
                    return

    async def aclose(self) -> None:
        """Cut all."""
        for task in list(self._carrying):
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)


@contextlib.asynccontextmanager
async def balancing(backends: Sequence[int], seed: int = 0) -> AsyncIterator[Balancer]:
    """On a free port of loopback."""
    balancer = Balancer(backends, seed)
    server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
    balancer.port = server.sockets[0].getsockname()[1]
    try:
        yield balancer
    finally:
        server.close()
        await balancer.aclose()
