"""One actor at a time for each machine and each job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager


class Locks:
    """Locks by key: each is there as long as somebody has it or waits for it, so nobody has to tidy up."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}

    def __getitem__(self, key: str) -> AbstractAsyncContextManager[None]:
        return self._held(key)

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def _held(self, key: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(key) or (asyncio.Lock(), 0)
        self._locks[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks.pop(key)
            if users > 1:
                self._locks[key] = lock, users - 1
