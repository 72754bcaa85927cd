"""When to try again: GitLab's own wish first, else exponential with jitter. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 3600.0
"""A wish beyond an hour is a fault of some proxy, not GitLab's will."""


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """How many seconds the other side asks us to wait, or None.

    Reads `Retry-After` (seconds or HTTP date) and then `RateLimit-ResetTime`, the two that
    gitlab-runner reads (network/retry_requester.go). `now` is Unix time. Nonsense counts as absent.
    """
    for name in ("Retry-After", "RateLimit-ResetTime"):
        seconds = _seconds(headers.get(name, "").strip(), now)
        if seconds is not None:
            return min(seconds, MAX_RETRY_AFTER_S)
    return None


def _seconds(value: str, now: float) -> float | None:
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def delay_s(attempt: int, *, jitter: float, base_s: float = 0.5, cap_s: float = 60.0) -> float:
    """Seconds before try number `attempt` + 1, where the first try was number 1.

    `jitter` is a random number in [0, 1): the delay lies between half and the whole of
    `base_s * 2**(attempt-1)`, so that many callers do not come back at once.
    """
    whole = min(cap_s, base_s * 2.0 ** min(max(attempt, 1) - 1, 32))
    return whole / 2 + whole / 2 * jitter


def wait_s(attempt: int, wish_s: float | None, *, jitter: float, cap_s: float = 60.0) -> float:
    """The wish of the other side if it has one (spread by up to a tenth), else the backoff."""
    if wish_s is None:
        return delay_s(attempt, jitter=jitter, cap_s=cap_s)
    return min(cap_s, wish_s * (1 + jitter / 10))
