"""Runs the fake's application on a socket, inside the caller's event loop, and stops it cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from firerunner.fakes.gitlab.misbehave import CUT

SHUTDOWN_S = 3
KEEP_ALIVE_S = 60
TICK_S = 1.0


class _CuttableProtocol(H11Protocol):
    """Lets the application close its own connection in the middle of an answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        inner = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scope[CUT] = self._cut
            await inner(scope, receive, send)

        self.app = app

    async def _cut(self, *, at_once: bool) -> None:
        if at_once:
            self.transport.abort()
        else:
            self.transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


class _Server(uvicorn.Server):
    """A server that leaves the process's signal handlers alone and ends when told, not at its next look."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ending = asyncio.Event()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close everything as soon as the answers under way are done, at the latest after a few seconds."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = asyncio.get_running_loop().time() + SHUTDOWN_S
        while (self.server_state.connections or self.server_state.tasks) and (
            asyncio.get_running_loop().time() < deadline
        ):
            await asyncio.sleep(0.005)
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for server in self.servers:
            await server.wait_closed()

    def end(self) -> None:
        """Leave the loop now."""
        self.should_exit = True
        self._ending.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the server shows: PEM files of its chain and of its key."""

    chain: Path
    key: Path


class Listener:
    """One listening socket and the server behind it."""

    def __init__(self, app: ASGIApp, host: str, port: int, certificate: Certificate | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Named, so that asyncio sets TCP_NODELAY on what is accepted.
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            http=_CuttableProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            server_header=False,
            ssl_certfile=certificate.chain if certificate else None,
            ssl_keyfile=certificate.key if certificate else None,
        )
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. From the return on, connections are accepted."""
        self._socket.listen(1024)
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started:
            if self._serving.done():
                await self._serving
                raise RuntimeError("the fake GitLab's server ended before it had started")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Close the socket and every connection."""
        self._server.end()
        if self._serving:
            await self._serving
        self._socket.close()
