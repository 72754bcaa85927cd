"""So many of something for each client and minute, in a moving window; in memory, and in bounds."""

from __future__ import annotations

import math
import time
from collections import OrderedDict

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter


class PerClient:
    """A budget for each client. Of too many clients, those heard of longest ago are forgotten."""

    def __init__(self, per_minute: int, remembered: int = 1024) -> None:
        self.per_minute = per_minute
        self._item = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._clients: OrderedDict[str, None] = OrderedDict()
        self._remembered = remembered

    def spend(self, client: str) -> int | None:
        """None if the client still had one, which is spent now; else the seconds until it has one again."""
        self._clients[client] = None
        self._clients.move_to_end(client)
        if len(self._clients) > self._remembered:
            forgotten, _ = self._clients.popitem(last=False)
            self._limiter.clear(self._item, forgotten)
        if self._limiter.hit(self._item, client):
            return None
        again_at = self._limiter.get_window_stats(self._item, client).reset_time
        return max(1, math.ceil(again_at - time.time()))

    def clients(self) -> list[str]:
        """Those who are remembered, in the order in which they were last heard of."""
        return list(self._clients)
