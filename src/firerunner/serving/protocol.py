"""uvicorn's HTTP/1.1 protocol with the time-outs that it lacks.

uvicorn (0.54, both of its implementations) closes a connection that is silent after an answer, but waits for
ever for the rest of a request's head, drips included, and for a client who does not read. Here a timer runs
whenever no request is being worked on; it starts with the connection, or with the first byte after an answer,
and only a complete head stops it. Long polls and uploads are requests being worked on: nothing cuts them.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from firerunner.serving.bounds import Bounds
from firerunner.serving.crowd import Crowd

_log = logging.getLogger("firerunner.serving.http")
_log.setLevel(logging.ERROR)  # what strangers send is no line in our log; our applications' exceptions are


Opening = asyncio.Task[tuple[asyncio.Transport, asyncio.Protocol]]


class BoundedProtocol(H11Protocol):
    """One connection; a `Visitor` of the crowd, which it has entered before it is connected."""

    opening: Opening | None = None
    """Carries out the TLS handshake."""

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        app_state: dict[str, Any],
        bounds: Bounds,
        crowd: Crowd,
    ) -> None:
        super().__init__(config, state, app_state)
        self.logger = _log
        self._bounds = bounds
        self._crowd = crowd
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def drop(self) -> None:
        """End the connection now, whatever state it is in."""
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.leave(self)
        self._stop_head_timer()
        self._stop_stall_timer()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        self._expect_head()
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        self._crowd.wait(self)
        super().on_response_complete()  # goes on with a request that came before its turn, if there is one
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self._bounds.stalled_s, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall_timer()

    def send_400_response(self, msg: str) -> None:
        """What was sent is no HTTP. Whoever is at work on the request's head is told that its client is gone:
        its own answer would come after this one, or this one in the midst of it."""
        if self._busy:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_head(self) -> None:
        if self._head_timer is None and not self._busy and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self._bounds.head_s, self.drop)

    def _look(self) -> None:
        if self._busy:
            self._stop_head_timer()
            self._crowd.serve(self)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
