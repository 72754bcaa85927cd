"""Signed hooks that have been here: a copy of one, honest or not, wakes nobody a second time."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

KEEP_S = 600.0
"""A signature is good for five minutes before and after its time, so never longer than this."""


class Replays:
    """Remembers ids, the latest `remembered` of them. After a restart it remembers none, and a copy may wake
    again: that costs one needless ask."""

    def __init__(self, remembered: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._remembered = remembered
        self._clock = clock

    def __len__(self) -> int:
        return len(self._seen)

    def is_new(self, gitlab: str, webhook_id: str) -> bool:
        """True the first time."""
        now = self._clock()
        while self._seen and (len(self._seen) > self._remembered or next(iter(self._seen.values())) <= now):
            self._seen.popitem(last=False)
        if (gitlab, webhook_id) in self._seen:
            return False
        self._seen[gitlab, webhook_id] = now + KEEP_S
        return True
