"""The one shape of a result: a measure, what it was compared with, and the goal as data."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, Literal

_COMPARE: Final = {"<=": operator.le, ">=": operator.ge}
_WORDS: Final = {"<=": "at most", ">=": "at least"}


@dataclass(frozen=True, slots=True)
class Goal:
    """What is promised of one number of a row, so that anybody can judge it again."""

    of: Literal["value", "ratio"]
    op: Literal["<=", ">="]
    number: float

    def met(self, value: float, ratio: float | None) -> bool:
        """Whether these numbers meet it. Raises ValueError if it is about a ratio and there is none."""
        number = value if self.of == "value" else ratio
        if number is None:
            raise ValueError("the goal is about a ratio and the row has none; give it a floor")
        return bool(_COMPARE[self.op](number, self.number))

    def words(self, unit: str) -> str:
        """For people: `at most 1.2 x`."""
        return f"{_WORDS[self.op]} {self.number:g} {'x' if self.of == 'ratio' else unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `bench/out/NAME.json`. `value` and `floor` are medians of their samples."""

    measure: str
    value: float
    floor: float | None = None
    """The same work done barely, in the same run."""
    ratio: float | None = None
    unit: str = "s"
    """Of value and floor."""
    samples: tuple[float, ...] = ()
    """What `value` is the median of, in the order of the rounds."""
    floor_samples: tuple[float, ...] = ()
    """What `floor` is the median of."""
    target: Goal | None = None
    """The goal as data."""

    def __post_init__(self) -> None:
        """Raises ValueError if the goal is about a ratio that is not there."""
        if self.target is not None:
            self.target.met(self.value, self.ratio)

    @property
    def goal(self) -> str:
        """In words; empty where nothing is promised."""
        return "" if self.target is None else self.target.words(self.unit)

    @property
    def ok(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        return None if self.target is None else self.target.met(self.value, self.ratio)


def measured(
    measure: str,
    samples: list[float],
    floor: list[float] | None = None,
    *,
    unit: str = "s",
    target: Goal | None = None,
) -> Row:
    """A row of medians, with the ratio if there is a floor. Raises ValueError without samples."""
    if not samples or floor == []:
        raise ValueError(f"{measure}: there are no samples; let the bench run at least one round")
    value = median(samples)
    if floor is None:
        return Row(measure, value, unit=unit, samples=tuple(samples), target=target)
    beside = median(floor)
    ratio = value / beside if beside else None
    return Row(
        *(measure, value, beside, ratio),
        unit=unit,
        samples=tuple(samples),
        floor_samples=tuple(floor),
        target=target,
    )


def as_json(row: Row) -> dict[str, Any]:
    """The row for `NAME.json`."""
    return {
        "measure": row.measure.strip(),
        "unit": row.unit,
        "value": row.value,
        "samples": list(row.samples),
        "floor": row.floor,
        "floor_samples": list(row.floor_samples),
        "ratio": row.ratio,
        "goal": None
        if row.target is None
        else {"of": row.target.of, "op": row.target.op, "number": row.target.number},
        "goal_in_words": row.goal,
        "ok": row.ok,
    }
