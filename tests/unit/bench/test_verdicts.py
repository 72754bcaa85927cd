"""What `pickup` and `churn` promise, judged on made-up measurements."""

from __future__ import annotations

import pytest
from bench import churn, pickup
from bench.pickup import COLD, FLOOR, RESTORED, WARM, Found
from bench.steps import between


def found(
    *, cold: float = 10.0, restored: float | None = None, warm: float = 2.0, own_s: float = 0.04
) -> dict[str, Found]:
    """Two rounds of each way, beside a floor of 2 s."""
    ways = {FLOOR: Found([2.0, 2.0], [{"starts": 1.0}] * 2)}
    for way, seconds in ((COLD, cold), (RESTORED, restored), (WARM, warm)):
        if seconds is not None:
            ways[way] = Found([seconds, seconds], [{"runs": seconds}] * 2, [{"confirm": own_s}] * 2)
    return ways


def verdicts(ways: dict[str, Found]) -> dict[str, bool]:
    return {row.measure: row.ok for row in pickup.rows(ways) if row.ok is not None}


@pytest.mark.parametrize(("warm", "met"), [(2.4, True), (2.5, False)])
def test_a_warm_pickup_takes_at_most_1_2_times_the_floor(warm: float, met: bool) -> None:
    assert verdicts(found(warm=warm))["pending to first output: warm"] is met


@pytest.mark.parametrize(("restored", "met"), [(3.5, True), (3.7, False)])
def test_a_restored_one_adds_at_most_a_fifth_of_what_a_cold_one_adds(restored: float, met: bool) -> None:
    assert verdicts(found(restored=restored))["restored less floor, beside cold less floor"] is met


def test_restored_is_not_judged_where_it_was_not_measured() -> None:
    assert not any("restored" in measure for measure in verdicts(found()))


@pytest.mark.parametrize(("own_s", "met"), [(0.05, True), (0.051, False)])
def test_our_own_part_is_at_most_50_ms_each_way(own_s: float, met: bool) -> None:
    own = {measure: ok for measure, ok in verdicts(found(own_s=own_s)).items() if "own part" in measure}

    assert own == {"FireRunner's own part: cold": met, "FireRunner's own part: warm": met}


@pytest.mark.parametrize(("service_s", "met"), [(44.0, True), (45.0, False)])
def test_churn_is_at_least_0_9_of_the_bare_loop(service_s: float, met: bool) -> None:
    (row,) = churn.rows([service_s], [40.0])

    assert row.ok is met
    assert row.floor == pytest.approx(60 * churn.JOBS / 40.0)


BOOTED = {"creating": 0.2, "booting": 0.5, "waiting": 3.5}
REST = {"taken": 0.1, "delivered": 4.0, "running": 5.0, "output": 6.0}


def test_the_steps_of_a_cold_pickup_fill_its_whole_time() -> None:
    taken = between(0.0, BOOTED | REST)

    assert len(taken) == len(BOOTED | REST)
    assert sum(taken.values()) == pytest.approx(6.0)


def test_a_machine_that_was_there_before_its_job_has_not_booted_for_it() -> None:
    before = {state: at - 50.0 for state, at in BOOTED.items()}

    assert list(between(0.0, before | REST).values()) == pytest.approx([0.1, 3.9, 1.0, 1.0])
