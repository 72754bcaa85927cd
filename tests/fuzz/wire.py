"""A connection that sends bytes as they are and reads what answers come, with little work for each."""

from __future__ import annotations

import asyncio
import re

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_KEPT = 1000
_LAST_CHUNK = b"0\r\n\r\n"


class Wire(asyncio.Protocol):
    """Answers are read one after the other; their bodies are thrown away."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        """Of all answers that came since `send`, the interim ones left out."""
        self.closed = asyncio.Event()
        self.raw = b""
        """How the answers begin."""
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._left: int | None = 0
        """Bytes of a body that are still to come; None: until the last chunk; -1: until the end."""
        self._wanted = 0
        self._is_head = False
        self._said_close = False
        self._changed = asyncio.Event()

    @property
    def open(self) -> bool:
        """True if another request may be sent."""
        return (
            self._transport is not None
            and not self.closed.is_set()
            and not self._said_close
            and not self._buffer
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
        self._changed.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self.raw) < _KEPT:
            self.raw += data[:_KEPT]
        while self._buffer and self._step():
            pass
        if len(self.statuses) >= self._wanted and self._left == 0:
            self._changed.set()

    def send(self, data: bytes, *, answers: int = 1, is_head: bool = False) -> None:
        """Begin a request."""
        assert self._transport is not None
        self.statuses, self._wanted, self._is_head, self.raw = [], answers, is_head, b""
        self._changed.clear()
        self._transport.write(data)

    def more(self, data: bytes) -> None:
        """Go on with it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def read_nothing(self) -> None:
        """From now on."""
        if self._transport is not None:
            self._transport.pause_reading()

    def half_close(self) -> None:
        """Say that nothing more will be sent."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    async def answered(self, timeout_s: float) -> bool:
        """Wait for all answers, or the end of the connection; False if neither comes in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def abort(self) -> None:
        """End it now."""
        if self._transport is not None:
            self._transport.abort()
        self.closed.set()

    def _step(self) -> bool:
        """Take one thing off the buffer; False if there is not enough of it."""
        if self._left == 0:
            return self._head()
        if self._left is None:
            at = self._buffer.find(_LAST_CHUNK)
            if at < 0:
                del self._buffer[: -len(_LAST_CHUNK)]
                return False
            del self._buffer[: at + len(_LAST_CHUNK)]
            self._left = 0
            return True
        if self._left < 0:
            self._buffer.clear()
            return False
        taken = min(self._left, len(self._buffer))
        del self._buffer[:taken]
        self._left -= taken
        return True

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 4]
        status = int(head[9:12]) if head[:5] == b"HTTP/" and head[9:12].isdigit() else -1
        if 100 <= status < 200 and status != 101:
            return True
        self.statuses.append(status)
        if _CLOSE.search(head):
            self._said_close = True
        length = _LENGTH.search(head)
        if (
            self._is_head and self._said_close
        ):  # who could not read the request does not know that it is a HEAD
            self._left = -1
        elif self._is_head or status in {204, 304}:
            self._left = 0
        elif _CHUNKED.search(head):
            self._left = None
        elif length:
            self._left = int(length[1])
        else:
            self._left = -1
        return True


async def connected(port: int) -> Wire:
    """To this computer."""
    _, wire = await asyncio.get_running_loop().create_connection(Wire, "127.0.0.1", port)
    return wire
