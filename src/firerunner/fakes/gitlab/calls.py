"""Writes down every call that the fake answers, so that a test can count and inspect what it was asked."""

from __future__ import annotations

import uuid
from collections import deque
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from firerunner.fakes.gitlab.changes import Changes
from firerunner.fakes.gitlab.clock import Clock

CALLS_KEPT = 20_000


@dataclass(slots=True)
class Call:
    """One request; `status` stays None while it is served, and if its connection was cut."""

    method: str
    path: str
    query: str
    headers: Headers
    at: float
    status: int | None = None
    answered_at: float | None = None
    ended: bool = False


class CallBook:
    """ASGI middleware; also answers with `X-Request-Id` as GitLab does."""

    def __init__(self, app: ASGIApp, clock: Clock, changes: Changes) -> None:
        self._app = app
        self._clock = clock
        self._changes = changes
        self.calls: deque[Call] = deque(maxlen=CALLS_KEPT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the call and pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        query = scope["query_string"].decode("latin-1")
        call = Call(scope["method"], scope["path"], query, headers, self._clock())
        self.calls.append(call)
        self._changes.ring()
        request_id = headers.get("x-request-id") or uuid.uuid4().hex

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                call.answered_at = self._clock()
                self._changes.ring()
                message = {
                    **message,
                    "headers": [*message["headers"], (b"x-request-id", request_id.encode())],
                }
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            call.ended = True
            self._changes.ring()
