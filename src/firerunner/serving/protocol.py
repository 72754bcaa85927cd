"""uvicorn's HTTP/1.1 protocol on httptools' parser, with the bounds that both lack.

uvicorn (0.54, both of its implementations) closes a connection that is silent after an answer, but waits for
ever for the rest of a request's head, drips included, and for a client who does not read. Here a timer runs
whenever no request is being worked on; it starts with the connection, or with the first byte after an answer,
and only a complete head stops it. Long polls and uploads are requests being worked on: nothing cuts them.

The parser (llhttp) is strict about what a byte may be and where a message ends, and bounds nothing: not how
long a head is, nor how many headers it has, nor what may stand between two pieces of a body.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from firerunner.serving.bounds import Bounds
from firerunner.serving.crowd import Crowd
from firerunner.serving.headers import SECURITY_HEADERS
from firerunner.serving.whole import EXTENSION

_log = logging.getLogger("firerunner.serving.http")
_log.setLevel(logging.ERROR)  # what strangers send is no line in our log; our applications' exceptions are

_LAST_WORD = {"content-type": "text/plain; charset=utf-8", "connection": "close", **SECURITY_HEADERS}
_TOO_LARGE = (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too many headers, or too long")

Opening = asyncio.Task[tuple[asyncio.Transport, asyncio.Protocol]]


class _NotRead(Exception):
    """Stops the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection; a `Visitor` of the crowd, which it has entered before it is connected.

    One request at a time: what comes before its turn ends the connection with the answer that is due (RFC
    9112, 9.3.2 lets a server do so). Trailers are counted and not told to anybody.
    """

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
        self._in_head = True
        self._fields, self._field_bytes = 0, 0
        self._idle_bytes = 0
        """Received since a head, a piece of a body or an end was got out of it."""
        self._deaf = False
        """This connection's last request is being worked on."""
        self._refusal = (HTTPStatus.BAD_REQUEST, "this is no HTTP request")

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
        if self.transport.is_closing():
            return  # TLS hands over what it had when we closed
        self._idle_bytes += len(data)
        if self._deaf:
            if self._idle_bytes > self._bounds.head_bytes:
                self.drop()
            return
        super().data_received(data)
        if self._busy:
            self._stop_head_timer()
            self._crowd.serve(self)
        else:
            self._expect_head()
        if self._idle_bytes > self._bounds.head_bytes and not (self._deaf or self.transport.is_closing()):
            self._refusal = _TOO_LARGE
            self._refuse()

    def on_message_begin(self) -> None:
        if self._busy:
            self._deaf = True
            raise _NotRead
        super().on_message_begin()
        self._in_head = True
        self._fields, self._field_bytes = 0, 0

    def on_url(self, url: bytes) -> None:
        self._count(0, len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(1, len(name) + len(value))
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        self._check_head()
        self._in_head = False
        self._idle_bytes = 0
        self.scope["extensions"] = {EXTENSION: {"has_come": self._has_come}}
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._idle_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._crowd.wait(self)
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self._bounds.stalled_s, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stall_timer()

    def send_400_response(self, msg: str) -> None:
        """The parser has stopped: what was sent is no HTTP, or not for us, or came before its turn."""
        if self._deaf:
            self.cycle.keep_alive = False
        else:
            self._refuse()

    def _unsupported_upgrade_warning(self) -> None:
        """The request is answered as if it asked for no other protocol; what follows may be in that one."""
        self._deaf = True
        self.cycle.keep_alive = False

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _has_come(self) -> bool:
        return not self.cycle.more_body

    def _count(self, fields: int, size: int) -> None:
        self._fields += fields
        self._field_bytes += size
        if self._fields > self._bounds.headers or self._field_bytes > self._bounds.head_bytes:
            self._refusal = _TOO_LARGE
            raise _NotRead

    def _check_head(self) -> None:
        """What the parser lets pass. Who reads a message's end elsewhere than we do is behind the gate, or
        in front of us (RFC 9112, 3.2 and 6.3)."""
        version = self.parser.get_http_version()
        hosts = [value for name, value in self.headers if name == b"host"]
        encodings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        framed = bool(encodings) or any(name == b"content-length" for name, _ in self.headers)
        if version not in {"1.0", "1.1"}:
            why = "only HTTP/1.1 and 1.0 are spoken here"
        elif len(hosts) > 1 or (not hosts and version == "1.1"):
            why = f"one Host header is needed, {len(hosts)} are there"
        elif encodings not in ([], [b"chunked"]):
            why = "the one transfer encoding here is chunked"
        elif framed and self.parser.should_upgrade():
            why = "a request with a body cannot ask for an upgrade"
        else:
            return
        self._refusal = (HTTPStatus.BAD_REQUEST, why)
        raise _NotRead

    def _refuse(self) -> None:
        """Answer what has not been read, and go. Whoever is at work on the request's head is told that its
        client is gone: its own answer would come after this one, or this one in the midst of it."""
        begun = False
        if self._busy:
            begun = self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not begun:
            self.transport.write(_last_word(*self._refusal))
        self.transport.close()

    def _expect_head(self) -> None:
        if self._head_timer is None and not self._busy and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(self._bounds.head_s, self.drop)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


def _last_word(status: HTTPStatus, message: str) -> bytes:
    headers = {**_LAST_WORD, "content-length": str(len(message))}
    lines = "".join(f"{name.lower()}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n{message}".encode("ascii")
