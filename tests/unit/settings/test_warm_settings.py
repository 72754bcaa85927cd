"""Warm machines in the configuration: a number, a schedule or a budget, and what is said of mistakes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from firerunner.gate.limits import Limits
from firerunner.settings import PoolSettings

RUNNER_WAITS_S = 600.0
"""For the headers of an answer (network/client.go)."""
POOL = {"name": "small", "runner_token": "glrt-x", "image": "base"}
WINDOW = {"days": ["mon", "fri"], "hours": "22:00-06:00", "zone": "Europe/Zurich", "count": 4}


def a_pool(warm: Any) -> PoolSettings:
    return PoolSettings.model_validate(POOL | {"warm": warm})


@pytest.mark.parametrize(("given", "count"), [(3, 3), ("3", 3), ({"count": 3}, 3), ({}, 0)])
def test_a_plain_number_is_the_count(given: Any, count: int) -> None:
    assert a_pool(given).warm.count == count


def test_a_window_has_days_hours_and_a_zone() -> None:
    (window,) = a_pool({"schedule": [WINDOW]}).warm.schedule

    assert window.days == ("mon", "fri")
    assert window.minutes == (22 * 60, 6 * 60)
    (whole,) = a_pool({"schedule": [{"count": 1}]}).warm.schedule
    assert (whole.minutes, len(whole.days)) == ((0, 1440), 7)


@pytest.mark.parametrize(
    ("warm", "said"),
    [
        (-1, "greater than or equal to 0"),
        (True, "warm"),
        (
            {"schedule": [WINDOW | {"zone": "Europe/Zurch"}]},
            "no time zone 'Europe/Zurch' here",
        ),
        ({"schedule": [WINDOW | {"zone": "../etc/passwd"}]}, "write its IANA name"),
        ({"schedule": [WINDOW | {"zone": ""}]}, "write its IANA name"),
        ({"schedule": [WINDOW | {"hours": "8-18"}]}, "expected hours such as 08:00-18:30"),
        ({"schedule": [WINDOW | {"hours": "24:00-06:00"}]}, "expected hours such as"),
        ({"schedule": [WINDOW | {"hours": "08:00-08:00"}]}, "write 00:00-24:00 for the whole day"),
        ({"schedule": [WINDOW | {"days": ["monday"]}]}, "got monday"),
        ({"schedule": [WINDOW | {"days": []}]}, "got none"),
        ({"auto": {"most": 3}, "count": 1}, "take one of them out"),
        ({"auto": {}}, "most"),
        ({"auto": {"most": 3, "misses": 0}}, "greater than 0"),
        ({"max_age": "10m"}, "less than or equal to 540"),
    ],
)
def test_mistakes_are_named(warm: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("(", r"\(")) as error:
        a_pool(warm)
    assert "warm" in str(error.value)


def test_no_machine_waits_longer_than_its_first_ask_is_held_and_the_runner_waits_for_its_answer() -> None:
    longest_s = a_pool({"max_age": "9m"}).warm.max_age

    assert longest_s < Limits().hold_s < RUNNER_WAITS_S
