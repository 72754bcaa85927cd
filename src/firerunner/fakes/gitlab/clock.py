"""The fake GitLab's idea of time: the real one, or one that a test holds and moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Unix seconds."""


class HeldClock:
    """A clock that stands still until it is told to move, so that a stuck hour costs a test nothing."""

    def __init__(self, now: float = 1_767_225_600.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move time forward; deadlines are looked at only by `FakeGitLab.drop_stuck_jobs`."""
        self.now += seconds


def iso(at: float | None) -> str | None:
    """ISO 8601 with milliseconds and Z, as the REST API writes times."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def spaced_utc(at: float | None) -> str | None:
    """The older form that webhooks still use: `2026-01-02 03:04:05 UTC`."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
