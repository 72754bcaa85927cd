"""The one shape of a result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `bench/out/NAME.json`. Values are medians; times in seconds."""

    measure: str
    value: float
    floor: float | None = None
    """The same work done barely, in the same run."""
    ratio: float | None = None
    goal: str = ""
    """In words; empty where nothing is promised."""
    ok: bool | None = None
    """Whether the goal is met; None where there is none."""
