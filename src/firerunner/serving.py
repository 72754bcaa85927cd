"""ASGI applications on sockets of ours, in this event loop, with signals left to us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator
from typing import Any

import uvicorn

_GOODBYE_S = 5


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The service as a whole decides what a signal means."""
        yield


@contextlib.asynccontextmanager
async def served(app: Any, listener: socket.socket, *, proxy_headers: bool = False) -> AsyncIterator[None]:
    """Serve `app` on the listening socket while the block runs; requests in flight get 5 s to end."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=proxy_headers,
        timeout_graceful_shutdown=_GOODBYE_S,
        timeout_keep_alive=60,
        h11_max_incomplete_event_size=65536,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await task
