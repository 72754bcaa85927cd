"""What a look at something has found: how bad it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"  # as it should be
    SKIP = "skip"  # not looked at: what is needed for it was not given
    WARN = "warn"  # it works, but not as well as it could
    FAIL = "fail"  # it will not work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    subject: str
    what: str
    remedy: str = ""
