"""A row's verdict follows from its numbers and its goal, so that others can judge it again."""

from __future__ import annotations

import pytest
from bench.rows import Goal, Row, as_json, measured


@pytest.mark.parametrize(
    ("goal", "value", "ratio", "met"),
    [
        (Goal("ratio", "<=", 1.2), 9.0, 1.2, True),
        (Goal("ratio", "<=", 1.2), 0.1, 1.21, False),
        (Goal("ratio", ">=", 0.9), 0.1, 0.9, True),
        (Goal("ratio", ">=", 0.9), 9.0, 0.89, False),
        (Goal("value", "<=", 50.0), 50.0, 9.0, True),
        (Goal("value", "<=", 50.0), 50.1, 0.1, False),
        (Goal("value", ">=", 50.0), 49.9, None, False),
    ],
)
def test_a_goal_is_met_by_the_number_that_it_names(
    goal: Goal, value: float, ratio: float | None, met: bool
) -> None:
    assert goal.met(value, ratio) is met


def test_a_goal_for_a_ratio_needs_a_floor() -> None:
    with pytest.raises(ValueError, match="give it a floor"):
        measured("warm", [1.0], target=Goal("ratio", "<=", 1.2))


def test_a_row_is_of_medians_and_keeps_every_sample() -> None:
    row = measured("warm", [3.0, 1.0, 2.0], [4.0, 100.0, 1.0], target=Goal("ratio", "<=", 0.5))

    assert (row.value, row.floor, row.ratio, row.ok) == (2.0, 4.0, 0.5, True)
    assert row.samples == (3.0, 1.0, 2.0)
    assert row.floor_samples == (4.0, 100.0, 1.0)
    assert row.goal == "at most 0.5 x"


def test_a_verdict_follows_from_the_numbers() -> None:
    row = Row("slow", 60.0, unit="ms", target=Goal("value", "<=", 50.0))

    assert row.ok is False
    assert row.goal == "at most 50 ms"


def test_without_samples_there_is_no_row() -> None:
    with pytest.raises(ValueError, match="at least one round"):
        measured("warm", [])
    with pytest.raises(ValueError, match="at least one round"):
        measured("warm", [1.0], [])


def test_a_floor_of_zero_gives_no_ratio() -> None:
    assert measured("warm", [1.0], [0.0]).ratio is None


def test_the_document_s_verdict_can_be_computed_from_its_own_numbers() -> None:
    rows = [
        measured("a", [3.0, 1.0], [1.0], target=Goal("ratio", "<=", 2.0)),
        measured("b", [3.0, 1.0], [1.0], target=Goal("ratio", ">=", 2.5)),
        measured("c", [51.0], unit="ms", target=Goal("value", "<=", 50.0)),
    ]

    for found in map(as_json, rows):
        number = found[found["goal"]["of"]]
        compared = {"<=": number <= found["goal"]["number"], ">=": number >= found["goal"]["number"]}
        assert found["ok"] is compared[found["goal"]["op"]]


def test_a_row_without_a_goal_has_no_verdict() -> None:
    found = as_json(measured("  a step", [1.0]))

    assert (found["goal"], found["ok"], found["measure"]) == (None, None, "a step")
