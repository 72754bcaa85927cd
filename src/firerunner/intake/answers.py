"""How the door refuses: one JSON message; at once, also while the client is still sending."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import Enum

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

_STRANGER_S = 2.0


class EarlyAnswer(JSONResponse):
    """An answer to a request whose body has not been read to its end.

    The client gets it at once. Then the rest of the body is thrown away for a while: a connection that is
    closed on unread bytes is reset, and the client may lose the answer.
    """

    def __init__(
        self, status: int, message: str, headers: Mapping[str, str], *, discard_bytes: int, discard_s: float
    ) -> None:
        super().__init__({"message": message}, status, {**headers, "Connection": "close"})
        self._discard_bytes = discard_bytes
        self._discard_s = discard_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(self._discard_s):
                await self._discard(receive)
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _discard(self, receive: Receive) -> None:
        left, more = self._discard_bytes, True
        while more and left > 0:
            message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)
            left -= len(message.get("body", b""))


class Unread(Enum):
    """What is read on of a refused body, so that the sender gets to see the answer: bytes, at most."""

    NONE = 0
    STRANGER = 1024 * 1024
    KNOWN = 32 * 1024 * 1024
    """GitLab sends at most 25 MB (reference: gitlab.md 1.6), and reads no answer before it has sent all."""


class Refused(Exception):
    """The answer to who does not get in. `facts` are for the log."""

    def __init__(
        self,
        status: int,
        outcome: str,
        message: str,
        unread: Unread = Unread.STRANGER,
        *,
        retry_after_s: int | None = None,
        **facts: object,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.outcome = outcome
        self.message = message
        self.unread = unread
        self.retry_after_s = retry_after_s
        self.facts = facts

    def answer(self, known_s: float) -> EarlyAnswer:
        """The response. Who is known gets `known_s` seconds to send the rest, and a stranger two."""
        return EarlyAnswer(
            self.status,
            self.message,
            {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)},
            discard_bytes=self.unread.value,
            discard_s=known_s if self.unread is Unread.KNOWN else _STRANGER_S,
        )
