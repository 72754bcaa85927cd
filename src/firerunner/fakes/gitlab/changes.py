"""Waking whoever waits for the fake GitLab's state to change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


class Changes:
    """A bell: everyone who listens is woken by each ring, and looks for himself."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Wake all listeners."""
        for listener in self._listeners:
            if not listener.done():
                listener.set_result(None)
        self._listeners.clear()

    async def next(self) -> None:
        """Return at the next ring."""
        listener = asyncio.get_running_loop().create_future()
        self._listeners.add(listener)
        try:
            await listener
        finally:
            self._listeners.discard(listener)

    async def until(self, look: Callable[[], Found], timeout_s: float) -> Found:
        """Return the first true thing that `look` returns. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while not (found := look()):
                await self.next()
            return found
