"""Reads bodies in bounds: each in size and time, and those of strangers all together.

A signature can only be verified over the whole body, so a stranger's body has to be held. Whoever sends many
large ones at once must not fill the memory: if all strangers' bodies together are too much, the largest goes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

STRANGERS_BYTES = 64 * 1024 * 1024


class TooLarge(Exception):
    """One body is larger than a body may be."""


class TooSlow(Exception):
    """The body has not come in time."""


class TooMuch(Exception):
    """All bodies together are too much, and this was the largest."""


@dataclass(eq=False, slots=True)
class _Reading:
    deadline: asyncio.Timeout
    body: bytearray = field(default_factory=bytearray)
    gone: bool = False


class Bodies:
    """Reads; and knows the bodies of strangers that are being read now."""

    def __init__(self, strangers_bytes: int = STRANGERS_BYTES) -> None:
        self._most = strangers_bytes
        self._held = 0
        self._strangers: set[_Reading] = set()

    async def read(
        self, parts: AsyncIterator[bytes], limit: int, timeout_s: float, *, stranger: bool
    ) -> bytes:
        """The body. Raises TooLarge, TooSlow, TooMuch, and what `parts` raises."""
        reading = None
        try:
            async with asyncio.timeout(timeout_s) as deadline:
                reading = _Reading(deadline)
                if stranger:
                    self._strangers.add(reading)
                async for part in parts:
                    if reading.gone:
                        raise TooMuch
                    if len(reading.body) + len(part) > limit:
                        raise TooLarge
                    reading.body += part
                    if stranger:
                        self._hold(reading, len(part))
                if reading.gone:
                    raise TooMuch
                return bytes(reading.body)
        except TimeoutError:
            raise (TooMuch if reading and reading.gone else TooSlow) from None
        finally:
            if reading is not None and reading in self._strangers:
                self._let_go(reading)

    def _hold(self, reading: _Reading, size: int) -> None:
        self._held += size
        while self._held > self._most:
            largest = max(self._strangers, key=lambda each: len(each.body))
            self._let_go(largest)
            if largest is reading:
                raise TooMuch
            largest.deadline.reschedule(asyncio.get_running_loop().time())

    def _let_go(self, reading: _Reading) -> None:
        self._strangers.discard(reading)
        self._held -= len(reading.body)
        reading.body.clear()
        reading.gone = True
