"""Runs actors: at most one for each key at a time, none before its retry time, none that stops another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from firerunner.errors import NotLeader

RETRY_S = 5.0


class Actors:
    """The actors under way."""

    def __init__(self, clock: Callable[[], float], log: Any, lost: Callable[[NotLeader], None]) -> None:
        """`lost` is told when an actor finds that another leads."""
        self._clock = clock
        self._log = log
        self._lost = lost
        self._acting: dict[str, asyncio.Task[None]] = {}
        self._not_before: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._acting)

    def act(self, key: str, start: Callable[[], Awaitable[Any]]) -> None:
        """Start one, unless one with this key is at work or has just failed.

        An actor that raises, or gives False for "not done yet", may be started again after `RETRY_S`.
        """
        if key in self._acting or self._clock() < self._not_before.get(key, 0.0):
            return
        self._acting[key] = asyncio.create_task(self._guarded(key, start), name=key)

    async def _guarded(self, key: str, start: Callable[[], Awaitable[Any]]) -> None:
        done = False
        try:
            done = await start() is not False
        except NotLeader as error:
            self._lost(error)
        except Exception as error:
            # One actor's fault must not stop the others; the next sweep starts it again.
            self._log.error("actor failed", actor=key, error=str(error), exc_info=error)
        finally:
            self._acting.pop(key, None)
            if done:
                self._not_before.pop(key, None)
            else:
                self._not_before[key] = self._clock() + RETRY_S

    def release(self, kind: str) -> list[asyncio.Task[None]]:
        """Let those of this kind go on by themselves: the tasks, which are nobody's now."""
        keys = [key for key in self._acting if key.startswith(f"{kind}-")]
        return [self._acting.pop(key) for key in keys]

    async def cancel(self) -> None:
        """End all of them where they are."""
        tasks = list(self._acting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def forget_old(self) -> None:
        """Drop retry times that have passed."""
        now = self._clock()
        self._not_before = {key: at for key, at in self._not_before.items() if at > now}
