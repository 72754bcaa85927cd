"""Settings: how many machines a pool keeps warm, by count, by schedule or by itself, and for how long."""

from __future__ import annotations

import re
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from firerunner.settings.values import Duration, Section, Words

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
DAY_MIN = 1440


class WindowSettings(Section):
    """A part of the week in which so many machines are kept warm. Where several hold, the highest counts."""

    days: Words = DAYS
    """The days on which it begins: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`. Empty is a mistake."""

    hours: str = "00:00-24:00"
    """From and to, such as `08:00-18:30`; `22:00-06:00` ends on the next day."""

    zone: str = "UTC"
    """The time zone whose clock counts, by its IANA name, such as `Europe/Zurich`."""

    count: int = Field(ge=0, le=1000)
    """So many machines are kept warm."""

    @field_validator("days")
    @classmethod
    def _are_days(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [day for day in value if day not in DAYS]
        if wrong or not value:
            raise ValueError(f"expected days out of {', '.join(DAYS)}; got {wrong[0] if wrong else 'none'}")
        return value

    @field_validator("hours")
    @classmethod
    def _is_a_span(cls, value: str) -> str:
        begin, end = _minutes(value)
        if begin == end:
            raise ValueError("it begins and ends at the same time; write 00:00-24:00 for the whole day")
        return value

    @field_validator("zone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"no time zone {value[:40]!r} here: write its IANA name, such as Europe/Zurich or UTC; "
                "the names come from the system's package tzdata"
            ) from None
        return value

    @property
    def minutes(self) -> tuple[int, int]:
        """Beginning and end in minutes after midnight."""
        return _minutes(self.hours)


def _minutes(hours: str) -> tuple[int, int]:
    match = _HOURS.fullmatch(hours.strip())
    if match is None:
        raise ValueError("expected hours such as 08:00-18:30 or 22:00-06:00")
    begin = int(match[1]) * 60 + int(match[2])
    return begin, DAY_MIN if match[3] is None else int(match[3]) * 60 + int(match[4])


class AutoSettings(Section):
    """The number follows from how many jobs came in the last quarter of an hour and how long boots take."""

    misses: float = Field(default=0.05, gt=0.0, lt=1.0)
    """At most this part of the jobs should find no machine waiting."""

    most: int = Field(ge=1, le=1000)
    """The budget: never more than so many."""


class WarmSettings(Section):
    """Machines that are kept booted and waiting without a job. A plain number is short for `count`."""

    count: int = Field(default=0, ge=0, le=1000)
    """So many at all times."""

    schedule: tuple[WindowSettings, ...] = ()
    """So many at certain times, if that is more than `count`."""

    auto: AutoSettings | None = None
    """The number is found by itself, within a budget. Not together with the others."""

    max_age: Duration = Field(default=480.0, ge=60.0, le=540.0)
    """None waits longer, and by up to a quarter of it some go earlier, so that not all go at once. At most
    9 minutes: so long the gate holds the runner's first ask open."""

    @property
    def keeps_any(self) -> bool:
        """False if no machine ever waits without a job."""
        return self.count > 0 or bool(self.schedule) or self.auto is not None

    @model_validator(mode="after")
    def _has_one_way(self) -> WarmSettings:
        if self.auto is not None and (self.count or self.schedule):
            raise ValueError("auto is given together with count or schedule; take one of them out")
        return self


def as_section(value: Any) -> Any:
    """A plain number, also as a word of the environment, is the count."""
    if isinstance(value, int) and not isinstance(value, bool):
        return {"count": value}
    if isinstance(value, str) and value.strip().isdecimal():
        return {"count": int(value)}
    return value
