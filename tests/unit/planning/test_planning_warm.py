"""How many machines a pool keeps warm: the laws of Erlang's formula, and windows by the clock on the wall."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.planning.warm import Auto, Experience, Schedule, Window, enough, missed, wished

ZURICH, UTC = ZoneInfo("Europe/Zurich"), ZoneInfo("UTC")
EVERY_DAY = frozenset(range(7))
SUNDAY = frozenset({6})

autos = st.builds(Auto, st.floats(0.001, 0.9), st.integers(1, 60))
rates = st.floats(0.0, 10.0)
boots = st.floats(0.01, 300.0)


def at(text: str, zone: ZoneInfo = ZURICH, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


@given(autos, rates, boots)
def test_it_is_the_fewest_that_keep_to_the_target_or_the_budget(auto: Auto, rate: float, boot: float) -> None:
    number = enough(auto, rate, boot)

    assert 0 <= number <= auto.most
    assert number == auto.most or missed(number, rate * boot) <= auto.misses
    assert number == 0 or missed(number - 1, rate * boot) > auto.misses


@given(autos, rates, rates, boots)
def test_more_jobs_never_want_fewer(auto: Auto, one: float, other: float, boot: float) -> None:
    assert enough(auto, min(one, other), boot) <= enough(auto, max(one, other), boot)


@given(autos, rates, boots, boots)
def test_slower_boots_never_want_fewer(auto: Auto, rate: float, one: float, other: float) -> None:
    assert enough(auto, rate, min(one, other)) <= enough(auto, rate, max(one, other))


@given(st.floats(0.01, 50.0), st.integers(1, 60))
def test_the_recursion_is_erlangs_formula(load: float, machines: int) -> None:
    terms = [1.0]
    for number in range(1, machines + 1):
        terms.append(terms[-1] * load / number)

    assert missed(machines, load) == pytest.approx(terms[-1] / sum(terms), rel=1e-9)


def test_a_value_from_the_printed_tables() -> None:
    assert missed(5, 3.0) == pytest.approx(0.1101, abs=5e-5)
    assert missed(10, 4.461) == pytest.approx(0.01, abs=5e-5)


def test_arrivals_are_forgotten_and_boots_are_averaged() -> None:
    seen = Experience()
    rule = Auto(misses=0.05, most=20)
    assert wished(rule, 0.0, seen) == 0
    for second in range(90):
        seen.note_job(float(second * 10))
    seen.note_boot(20.0)
    seen.note_boot(40.0)

    assert wished(rule, 890.0, seen) == enough(rule, 0.1, 30.0) > 0
    assert wished(rule, 5000.0, seen) == 0


def the_window(begin: str, end: str, count: int = 4, days: frozenset[int] = EVERY_DAY) -> Window:
    minutes = [int(text[:2]) * 60 + int(text[3:]) for text in (begin, end)]
    return Window(days, *minutes, ZURICH, count)


def test_a_window_holds_from_its_beginning_to_just_before_its_end() -> None:
    window = the_window("08:00", "18:00")

    held = [window.holds(at(f"2026-01-14 {time}")) for time in ("07:59", "08:00", "17:59", "18:00")]

    assert held == [False, True, True, False]


def test_a_window_over_midnight_belongs_to_the_day_it_begins_on() -> None:
    window = the_window("22:00", "06:00", days=SUNDAY)

    assert window.holds(at("2026-01-18 22:00"))
    assert window.holds(at("2026-01-19 05:59"))
    assert not window.holds(at("2026-01-19 06:00"))
    assert not window.holds(at("2026-01-18 05:59"))
    assert not window.holds(at("2026-01-19 22:00"))


def test_where_several_hold_the_highest_counts() -> None:
    rule = Schedule(1, (the_window("08:00", "18:00", 2), the_window("12:00", "13:00", 7)))

    numbers = [wished(rule, at(f"2026-01-14 {time}"), Experience()) for time in ("07:00", "09:00", "12:30")]

    assert numbers == [1, 2, 7]


def test_the_window_moves_with_the_clock_on_the_wall() -> None:
    window = the_window("08:00", "09:00")

    assert window.holds(at("2026-03-28 07:30", UTC)) and not window.holds(at("2026-03-28 06:30", UTC))
    assert window.holds(at("2026-03-29 06:30", UTC)) and not window.holds(at("2026-03-29 07:30", UTC))


def test_an_hour_that_is_skipped_holds_nothing_and_one_that_comes_twice_holds_twice() -> None:
    window = the_window("02:00", "03:00")
    minutes = range(24 * 60)

    def held_on(day: str) -> int:
        midnight = at(f"{day} 00:00")
        return sum(window.holds(midnight + 60.0 * minute) for minute in minutes)

    assert (held_on("2026-03-28"), held_on("2026-03-29"), held_on("2026-10-25")) == (60, 0, 120)


@given(st.floats(0, 4e9), st.integers(0, 1439), st.integers(0, 1439), st.sets(st.integers(0, 6), min_size=1))
def test_a_window_and_what_it_leaves_out_are_the_whole_week(
    now: float, begin: int, end: int, days: set[int]
) -> None:
    if begin == end:
        return
    whole = [Window(EVERY_DAY, begin, end, ZURICH, 1), Window(EVERY_DAY, end, begin, ZURICH, 1)]

    assert sum(window.holds(now) for window in whole) == 1
    some, others = (Window(frozenset(d), begin, end, ZURICH, 1) for d in (days, EVERY_DAY - days))
    assert some.holds(now) + others.holds(now) == whole[0].holds(now)
