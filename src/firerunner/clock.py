"""The time of day that nobody can move: read once, then counted on by the monotonic clock.

All deadlines rest on it. A computer whose clock is set by an hour must not end every job as overdue.
"""

from __future__ import annotations

import time

MOVED_S = 30.0
"""Further apart than this, the computer's clock has been moved."""


class SteadyClock:
    """Gives Unix seconds. Call `set` to follow another computer's clock."""

    def __init__(self) -> None:
        self._base = time.time() - time.monotonic()

    def __call__(self) -> float:
        return self._base + time.monotonic()

    def set(self, now: float) -> None:
        """It is `now` (Unix seconds)."""
        self._base = now - time.monotonic()

    def moved_s(self) -> float:
        """How far the computer's own clock is from this one (seconds; positive: ahead)."""
        return time.time() - self()
