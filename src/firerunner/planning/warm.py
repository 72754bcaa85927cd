"""How many warm machines a pool wishes: by count, by the clock, or by how jobs come and machines boot.

By itself (`Auto`) it is Erlang's loss formula. Jobs come at a rate and take a waiting machine each, which is
back after one boot; one that finds none boots its own, so it is not queued for. The part of jobs that find
none of N is then B(N, rate x boot time), whatever the boot times' distribution (Erlang 1917; Sevastyanov 1957
for the insensitivity).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

REMEMBERED_S = 900.0
"""Arrivals count for so long: the rate is their number in this time."""
REMEMBERED_JOBS = 4096
REMEMBERED_BOOTS = 32
FIRST_BOOT_S = 10.0
"""How long a boot is thought to take until one has been seen."""
FALL_EVERY_S = 30.0
"""An automatic wish falls by one in this time and rises at once, so that chance makes and unmakes none."""


@dataclass(frozen=True, slots=True)
class Window:
    """Part of a week, by the clock on the wall there: where it is put forward or back, so is the window."""

    days: frozenset[int]
    """On which it begins; 0 is Monday."""
    begin_min: int
    end_min: int
    """Minutes after midnight. An end before the beginning is on the next day."""
    zone: tzinfo
    count: int

    def holds(self, at: float) -> bool:
        """True if the moment (Unix seconds) is in it."""
        local = datetime.fromtimestamp(at, self.zone)
        minute, today = local.hour * 60 + local.minute, local.weekday()
        if self.begin_min < self.end_min:
            return today in self.days and self.begin_min <= minute < self.end_min
        yesterday = (local.date() - timedelta(days=1)).weekday()
        return (today in self.days and minute >= self.begin_min) or (
            yesterday in self.days and minute < self.end_min
        )


@dataclass(frozen=True, slots=True)
class Schedule:
    """So many in these windows, and so many always. Where several hold, the highest counts."""

    always: int
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Auto:
    """As few as let at most this part of the jobs find none waiting."""

    misses: float
    """More than 0, less than 1."""
    most: int
    """The budget."""


WarmRule = int | Schedule | Auto


@dataclass(slots=True)
class Experience:
    """What a pool has seen of jobs and boots in this run."""

    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_JOBS))
    boots_s: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED_BOOTS))

    def note_job(self, at: float) -> None:
        self.arrivals.append(at)

    def note_boot(self, seconds: float) -> None:
        self.boots_s.append(max(0.0, seconds))

    def rate(self, now: float) -> float:
        """Jobs in a second."""
        while self.arrivals and self.arrivals[0] <= now - REMEMBERED_S:
            self.arrivals.popleft()
        return len(self.arrivals) / REMEMBERED_S

    @property
    def boot_s(self) -> float:
        return sum(self.boots_s) / len(self.boots_s) if self.boots_s else FIRST_BOOT_S


def missed(machines: int, load: float) -> float:
    """Erlang's B: the part of jobs that find none of so many machines; `load` is rate x boot time."""
    part = 1.0 if load > 0 else 0.0
    for number in range(1, machines + 1):
        part = load * part / (number + load * part)
    return part


def enough(auto: Auto, rate: float, boot_s: float) -> int:
    """The fewest with which no more than `misses` find none, or the budget if that is less."""
    load, part = rate * boot_s, 1.0 if rate * boot_s > 0 else 0.0
    for number in range(auto.most):
        if part <= auto.misses:
            return number
        part = load * part / (number + 1 + load * part)
    return auto.most


def wished(rule: WarmRule, now: float, experience: Experience) -> int:
    """The number of warm machines that the pool should have now (Unix seconds)."""
    match rule:
        case Auto():
            return enough(rule, experience.rate(now), experience.boot_s)
        case Schedule(always=always, windows=windows):
            return max([always, *(window.count for window in windows if window.holds(now))])
    return rule
