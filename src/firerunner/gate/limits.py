"""How much a guest may ask of the gate."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from firerunner.gate.refusals import Kind, Refusal

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The defaults leave an honest runner a wide margin: it makes about one call in three seconds."""

    guest_body_bytes: int = 4096
    """Body of `booted` and `ended`."""
    json_body_bytes: int = MIB
    """Body of an ask or a job update."""
    trace_patch_bytes: int = 8 * MIB
    """One trace patch; gitlab-runner sends at most 1 MiB (common/consts.go DefaultTracePatchLimit)."""
    reply_bytes: int = 4 * MIB
    """What is read of GitLab's reply to a PUT or PATCH."""
    requests_per_s: float = 20.0
    """Per machine, on average."""
    burst: int = 60
    concurrent: int = 16
    """Requests in flight per machine; a job that uploads and downloads in parallel needs a handful."""
    hold_s: float = 570.0
    """How long an early ask is held: longer than a warm machine waits, so that none is between two asks when
    its job comes. The runner waits 10 min for response headers (network/client.go)."""
    recheck_s: float = 5.0
    """How often a held ask looks into the ledger by itself, for a wake-up that got lost."""
    body_timeout_s: float = 60.0
    """For a whole small body."""
    idle_s: float = 300.0
    """For the next piece of an artifact, in either direction."""
    drain_bytes: int = 64 * MIB
    """What is read and thrown away of a body after an early answer, so that the guest gets to read it
    instead of a reset connection."""
    drain_s: float = 15.0
    refused_drain_bytes: int = MIB
    """The same where the guest has lied, or sends no artifact."""
    refused_drain_s: float = 5.0
    remembered: int = 4096
    """Machines in each in-memory table."""
    remember_s: float = 60.0
    """How long what was read from the ledger about a running job is believed."""
    look_s: float = 20.0
    """How long the ask of a held guest for an operator's script is kept open."""
    trace_save_s: float = 5.0
    """How often a growing trace's length is written into the ledger."""


class Buckets:
    """A token bucket for each machine; the least recently used are forgotten."""

    def __init__(self, rate_per_s: float, burst: int, remembered: int) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._remembered = remembered
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float) -> float:
        """Take one token. Returns 0, or how many seconds to wait for one."""
        level, at = self._levels.pop(name, (self._burst, now))
        level = min(self._burst, level + max(0.0, now - at) * self._rate_per_s)
        wait_s = 0.0 if level >= 1 else (1 - level) / self._rate_per_s
        self._levels[name] = (level - 1 if level >= 1 else level, now)
        if len(self._levels) > self._remembered:
            self._levels.popitem(last=False)
        return wait_s


class Turnstile:
    """Counts requests in flight for each machine, and refuses those beyond the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside: dict[str, int] = {}

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        count = self._inside.get(name, 0)
        if count >= self._limit:
            raise Refusal(429, Kind.CROWD, f"more than {self._limit} requests at once", retry_after_s=1)
        self._inside[name] = count + 1
        try:
            yield
        finally:
            left = self._inside[name] - 1
            if left:
                self._inside[name] = left
            else:
                del self._inside[name]
