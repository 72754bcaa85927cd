"""The power of one run of the service: when it fails, nothing has an effect any more.

A point is each moment before and after something is written, or done outside. To fail there is what SIGKILL
does: what was committed and done stays, and not one more step is taken.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


class PowerLost(BaseException):
    """There is no process any more. Not an Exception: nothing of the service may deal with it."""


@dataclass
class Power:
    """`fails_at`: the number of the point at which it fails, or a point's name and which time; None: never by
    itself."""

    fails_at: int | tuple[str, int] | None = None
    on: bool = True
    points: int = 0
    failed_at: str = ""
    names: Counter[str] = field(default_factory=Counter)
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    on_point: Callable[[str], None] = lambda name: None

    async def point(self, name: str) -> None:
        """Returns while there is power; else never."""
        if self.on:
            self.points += 1
            self.names[name] += 1
            self.on_point(name)
            if self.fails_at in (self.points, (name, self.names[name])):
                self.cut(name)
        if not self.on:
            await asyncio.get_running_loop().create_future()

    def cut(self, name: str) -> None:
        """Now."""
        self.on, self.failed_at = False, name
        self.lost.set()
