"""Accepts connections in this event loop and serves an ASGI application on them, with signals left to us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Generator

import structlog
import uvicorn
from starlette.types import ASGIApp

from firerunner.serving.bounds import GATE_BOUNDS, Bounds
from firerunner.serving.certificate import Certificate
from firerunner.serving.crowd import Crowd
from firerunner.serving.protocol import BoundedProtocol, Opening

_GOODBYE_S = 5
_NO_ACCEPT_S = 0.5
"""How long to wait where the system gives no more connections: out of file descriptors or memory."""
_AT_ONCE = 100
"""Connections accepted before others in the loop get their turn, as in asyncio's own server."""
_TELL_EVERY_S = 60.0


class Served:
    """A handle on what is being served."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    @property
    def connections(self) -> int:
        """How many there are now, handshakes included."""
        return len(self._server.crowd)

    @property
    def certificate_until(self) -> float | None:
        """When the certificate that is shown expires (Unix seconds); None without TLS."""
        return self._server.certificate_until

    def renew_certificate(self) -> None:
        """Read the certificate's files anew, for connections made from now on.

        Nothing happens without TLS. Raises SettingsError, and then the old one stays.
        """
        self._server.renew_certificate()


@contextlib.asynccontextmanager
async def served(
    app: ASGIApp,
    listener: socket.socket,
    *,
    bounds: Bounds = GATE_BOUNDS,
    certificate: Certificate | None = None,
) -> AsyncIterator[Served]:
    """Serve `app` on the listening socket while the block runs; requests in flight get 5 s to end.

    Raises SettingsError if the certificate cannot be used. The socket is closed at the end.
    """
    try:
        server = _Server(app, bounds, certificate)
    except BaseException:
        listener.close()
        raise
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.01)
        yield Served(server)
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """uvicorn's server with an acceptor of ours, which sees a connection before its TLS handshake."""

    def __init__(self, app: ASGIApp, bounds: Bounds, certificate: Certificate | None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_GOODBYE_S,
                timeout_keep_alive=bounds.keep_alive_s,
            )
        )
        self.crowd = Crowd(bounds.connections)
        self._bounds = bounds
        self._certificate = certificate
        self._tls: ssl.SSLContext | None = None
        self.certificate_until: float | None = None
        self.renew_certificate()
        self._listeners: list[socket.socket] = []
        self._openings: set[Opening] = set()
        self._told_at = -_TELL_EVERY_S
        self._log = structlog.get_logger("firerunner.serving")

    def renew_certificate(self) -> None:
        if self._certificate is not None:
            self._tls = self._certificate.context()
            self.certificate_until = self._certificate.expires_at()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """The service as a whole decides what a signal means."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.servers = []
        self._listeners = list(sockets or ())
        for listener in self._listeners:
            listener.setblocking(False)
        self._listen()
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._look_away()
        self._listeners = []
        for opening in self._openings:
            opening.cancel()
        await super().shutdown(sockets)
        for late in self.crowd.everybody():
            late.drop()

    def _listen(self) -> None:
        for listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _look_away(self) -> None:
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._tell("no connection can be accepted", error=error.strerror)
                self._look_away()
                asyncio.get_running_loop().call_later(_NO_ACCEPT_S, self._listen)
                return
            connection.setblocking(False)
            self._let_in(connection)

    def _let_in(self, connection: socket.socket) -> None:
        visitor = BoundedProtocol(self.config, self.server_state, {}, self._bounds, self.crowd)
        if not self.crowd.enter(visitor):
            connection.close()
            self._tell("full: a connection was refused", connections=len(self.crowd))
            return
        patience_s = self._bounds.head_s if self._tls else None
        visitor.opening = asyncio.create_task(
            asyncio.get_running_loop().connect_accepted_socket(
                lambda: visitor,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=patience_s,
                ssl_shutdown_timeout=patience_s,
            )
        )
        self._openings.add(visitor.opening)
        visitor.opening.add_done_callback(lambda opening: self._opened(opening, visitor, connection))

    def _opened(self, opening: Opening, visitor: BoundedProtocol, connection: socket.socket) -> None:
        self._openings.discard(opening)
        visitor.opening = None
        # Failed: dropped, or the client went away, does not speak TLS, or took too long for it.
        if opening.cancelled() or opening.exception() is not None:
            self.crowd.leave(visitor)
            connection.close()

    def _tell(self, what: str, **facts: object) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._told_at + _TELL_EVERY_S:
            self._told_at = now
            self._log.warning(what, **facts)
