"""One HTTP request and its answer, over ASGI: read in bounds, answer once, notice who hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from starlette.types import Message, Receive, Scope, Send

from firerunner.gate.refusals import Kind, Refusal, form
from firerunner.serving.whole import has_come

Headers = Iterable[tuple[bytes, bytes]]


class ClientGone(Exception):
    """The guest hung up before the exchange was over."""


class Exchange:
    """Wraps one ASGI http scope."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self.raw_headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        self.started = False
        self.status = 0
        """Of the answer; 0 until it has begun."""
        self.received, self.sent = 0, 0
        """Bytes of the bodies."""
        self._scope = scope
        self._receive = receive
        self._send = send
        self._read_whole = False

    def header(self, name: str) -> str | None:
        """The one value of a header, or None. Raises `Refusal` if it is given twice or is not ASCII."""
        wanted = name.lower().encode()
        values = [value for key, value in self.raw_headers if key == wanted]
        if len(values) > 1:
            raise Refusal(400, Kind.MALFORMED, f"header {name} is given {len(values)} times")
        try:
            return values[0].decode("ascii") if values else None
        except UnicodeDecodeError:
            raise Refusal(400, Kind.MALFORMED, f"header {name} is not ASCII") from None

    def declared_length(self) -> int | None:
        value = self.header("content-length")
        return int(value) if value is not None and value.isdigit() and len(value) < 19 else None

    async def chunks(self, limit_bytes: int | None, idle_s: float) -> AsyncIterator[bytes]:
        """The body as it comes. Raises `Refusal` over the limit or when it stalls, else `ClientGone`."""
        self._check_declared(limit_bytes)
        seen = 0
        while not self._read_whole:
            try:
                async with asyncio.timeout(idle_s):
                    message = await self._receive()
            except TimeoutError:
                raise Refusal(408, Kind.TOO_SLOW, f"no byte of the body came for {idle_s:g} s") from None
            chunk = self._take(message)
            seen += len(chunk)
            if limit_bytes is not None and seen > limit_bytes:
                raise _too_large(limit_bytes)
            if chunk:
                yield chunk

    async def body(self, limit_bytes: int, timeout_s: float) -> bytes:
        """The whole body, if it is small and comes soon."""
        self._check_declared(limit_bytes)
        kept = bytearray()
        try:
            async with asyncio.timeout(None if has_come(self._scope) else timeout_s):
                while not self._read_whole:
                    kept += self._take(await self._receive())
                    if len(kept) > limit_bytes:
                        raise _too_large(limit_bytes)
        except TimeoutError:
            raise Refusal(408, Kind.TOO_SLOW, f"the body took longer than {timeout_s:g} s") from None
        return bytes(kept)

    async def gone(self) -> None:
        """Returns when the guest has hung up. Only once the body has been read whole."""
        message = await self._receive()
        while message["type"] != "http.disconnect":
            message = await self._receive()

    async def answer(self, status: int, headers: Headers = (), body: bytes = b"") -> None:
        """Answer in one go."""
        await self.start(status, headers)
        await self.write(body, last=True)

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers; the connection ends with the answer if the body is unread."""
        self.started, self.status = True, status
        headers = list(headers) if self._read_whole else [*headers, (b"connection", b"close")]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, last: bool) -> None:
        self.sent += len(body)
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})

    async def finish(self, *, drain_bytes: int, drain_s: float) -> None:
        """End the answer; before that, read on for a while if the guest is still sending.

        A connection that is closed on unread bytes is reset, and the guest may lose the answer.
        """
        try:
            async with asyncio.timeout(drain_s):
                while drain_bytes > 0 and not self._read_whole:
                    drain_bytes -= len(self._take(await self._receive()))
        except (TimeoutError, ClientGone):
            pass
        await self.write(b"", last=True)

    async def answer_early(
        self, status: int, headers: Headers, body: bytes, *, drain_bytes: int, drain_s: float
    ) -> None:
        """Answer a request whose body may not have been read."""
        if self._read_whole:
            await self.answer(status, headers, body)
            return
        await self.start(status, headers)
        await self.write(body, last=False)
        await self.finish(drain_bytes=drain_bytes, drain_s=drain_s)

    async def refuse(self, refusal: Refusal, *, drain_bytes: int, drain_s: float) -> None:
        headers, body = form(refusal)
        await self.answer_early(refusal.status, headers, body, drain_bytes=drain_bytes, drain_s=drain_s)

    def _check_declared(self, limit_bytes: int | None) -> None:
        declared = self.declared_length()
        if limit_bytes is not None and declared is not None and declared > limit_bytes:
            raise _too_large(limit_bytes)

    def _take(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._read_whole = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        self.received += len(chunk)
        return chunk


def _too_large(limit_bytes: int) -> Refusal:
    return Refusal(413, Kind.TOO_LARGE, f"the body is larger than {limit_bytes} bytes")
