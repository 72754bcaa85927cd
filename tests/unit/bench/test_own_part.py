"""What counts as FireRunner's own part of a pickup, by example: times in seconds since pending."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench.marks import Kind, Mark
from bench.own_part import Asked, Pickup, own_part

GATE = "/m/fr-000000000001"
ASK = Asked("POST", "/api/v4/jobs/request", 0.10, 0.20, 201)
CALLS = [
    ASK,
    Asked("PUT", "/api/v4/jobs/7", 0.31, 0.40, 200),  # the gate's question
    Asked("PUT", "/api/v4/jobs/7", 1.01, 1.05, 200),  # the runner's first call
    Asked("PATCH", "/api/v4/jobs/7/trace", 2.02, 2.50, 202),
]
MARKS = [
    Mark(Kind.HOOK, 0.03, 0.04, "/webhook"),
    Mark(Kind.GATE, -9.0, 0.45, f"POST {GATE}/api/v4/jobs/request"),  # held since long before
    Mark(Kind.GATE, 1.00, 1.08, f"PUT {GATE}/api/v4/jobs/7"),
    Mark(Kind.GATE, 2.00, 2.60, f"PATCH {GATE}/api/v4/jobs/7/trace"),
]
PICKUP = Pickup(job_id=7, machine_id="fr-000000000001", pending_at=0.0, taken_by=ASK)


def test_a_warm_machine() -> None:
    parts = own_part(PICKUP, MARKS, CALLS)

    assert parts == pytest.approx(
        {"hook to ask": 0.07, "confirm": 0.11, "delivery": 0.05, "job calls": 0.08 - 0.04 + 0.02}
    )


def test_a_machine_that_boots_for_the_job() -> None:
    marks = [
        MARKS[0],
        Mark(Kind.CREATE, 0.25, 0.30, PICKUP.machine_id),
        Mark(Kind.GATE, 3.00, 3.02, f"POST {GATE}/guest/booted"),
        Mark(Kind.GATE, 4.00, 4.45, f"POST {GATE}/api/v4/jobs/request"),
        Mark(Kind.GATE, 5.00, 5.08, f"PUT {GATE}/api/v4/jobs/7"),
        Mark(Kind.GATE, 6.00, 6.60, f"PATCH {GATE}/api/v4/jobs/7/trace"),
    ]
    calls = [
        ASK,
        Asked("PUT", "/api/v4/jobs/7", 4.31, 4.40, 200),
        Asked("PUT", "/api/v4/jobs/7", 5.01, 5.05, 200),
        Asked("PATCH", "/api/v4/jobs/7/trace", 6.02, 6.50, 202),
    ]

    parts = own_part(PICKUP, marks, calls)

    assert parts == pytest.approx(
        {
            "hook to ask": 0.07,
            "ask to machine": 0.05,
            "boot answered": 0.02,
            "confirm": 0.31,
            "delivery": 0.05,
            "job calls": 0.06,
        }
    )


def test_an_ask_that_gitlab_held_open_waited_for_no_hook() -> None:
    held = replace(ASK, at=-30.0)

    parts = own_part(replace(PICKUP, taken_by=held), MARKS, [held, *CALLS[1:]])

    assert parts["hook to ask"] == 0.0


def test_a_runner_that_says_running_only_later() -> None:
    silent = [mark for mark in MARKS if not mark.what.startswith("PUT")]

    assert own_part(PICKUP, silent, CALLS)["job calls"] == pytest.approx(0.02)


def test_other_machines_and_jobs_do_not_count() -> None:
    others = [replace(mark, what=mark.what.replace("01", "02").replace("/7", "/8")) for mark in MARKS[1:]]
    strangers = [replace(call, path=call.path.replace("/7", "/8")) for call in CALLS[1:]]

    assert own_part(PICKUP, others + MARKS, strangers + CALLS) == own_part(PICKUP, MARKS, CALLS)


def test_a_step_that_was_not_seen_is_a_fault_and_not_a_zero() -> None:
    with pytest.raises(ValueError, match="PATCH"):
        own_part(PICKUP, MARKS[:-1], CALLS)
    with pytest.raises(ValueError, match="did not come to GitLab"):
        own_part(PICKUP, MARKS, CALLS[:1])
