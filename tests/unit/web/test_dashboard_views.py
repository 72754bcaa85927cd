"""Views and what changes between them; the timeline of a job. No service, no browser."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from firerunner.ledger import JournalEntry
from firerunner.web.dashboard.timeline import LEAST_PERCENT, lanes
from firerunner.web.dashboard.views import View, change

rows = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from(["<tr>1", "<tr>2", "<tr>é\ud83d"]))


def applied(shown: dict[str, str], message: str | None) -> dict[str, str]:
    """What a page shows after it: as `apply` of dashboard.js does."""
    keys = list(shown)
    html = dict(shown)
    for told in json.loads(message or "[]"):
        if "all" in told:
            return {str(number): each for number, each in enumerate(told["all"])}
        keys = [key for key in keys if key not in told["drop"]]
        for key, before, each in told["put"]:
            html[key] = each
            if key not in keys:
                keys.insert(0 if before is None else keys.index(before) + 1, key)
    return {key: html[key] for key in keys}


@given(rows, rows)
def test_a_change_leads_from_any_view_to_any_other(old: dict[str, str], new: dict[str, str]) -> None:
    before, after = View({"place": old}), View({"place": new})

    shown = applied(old, change(before, after))

    assert list(shown.values()) == list(new.values())
    assert list(applied({}, after.whole).values()) == list(new.values())
    assert (
        (change(before, after) is None)
        == (before.version == after.version)
        == (list(old.items()) == list(new.items()))
    )


def moved(at: float, kind: str, subject: str, to: str) -> JournalEntry:
    return JournalEntry(int(at * 10), at, kind, subject, "moved", None, to, {}, 1)


def told(found: list[Any]) -> list[tuple[str, list[tuple[str, float, float, bool]], str | None]]:
    return [
        (
            lane.kind,
            [(span.state, round(span.left), round(span.width), span.goes_on) for span in lane.spans],
            lane.over,
        )
        for lane in found
    ]


JOB = [moved(10, "job", "7", "taken"), moved(10, "job", "7", "assigned"), moved(14, "job", "7", "running")]
MACHINE = [moved(8, "machine", "fr-a", "reserved"), moved(13, "machine", "fr-a", "busy")]
BOTH = [("job", "7"), ("machine", "fr-a")]


def test_states_of_job_and_machine_stand_on_one_scale() -> None:
    ended = [moved(18, "job", "7", "ended"), moved(18, "machine", "fr-a", "gone")]

    found = lanes([*JOB, *MACHINE, *ended, moved(20, "host", "7", "running")], BOTH, now=99.0)

    assert told(found) == [
        ("job", [("taken", 20, 0, False), ("assigned", 20, 40, False), ("running", 60, 40, False)], "ended"),
        ("machine", [("reserved", 0, 50, False), ("busy", 50, 50, False)], "gone"),
    ]
    assert round(found[0].spans[0].width, 3) == LEAST_PERCENT


def test_what_is_not_over_goes_on_until_now() -> None:
    (job, machine) = lanes([*JOB, *MACHINE], BOTH, now=28.0)

    assert (job.spans[-1].goes_on, job.spans[-1].seconds, job.over) == (True, 14.0, None)
    assert (machine.spans[-1].goes_on, machine.spans[-1].seconds) == (True, 15.0)
    assert lanes([], BOTH, now=28.0) == []


@given(st.lists(st.floats(0, 1e5), min_size=1, max_size=12), st.floats(0, 1e5))
def test_each_state_is_seen_however_short_and_none_hides_another(times: list[float], rest: float) -> None:
    states = ["reserved", "creating", "booting", "waiting", "busy", "failed", "retiring"]
    moves = [moved(at, "machine", "fr-a", states[n % 7]) for n, at in enumerate(sorted(times))]

    (lane,) = lanes(moves, [("machine", "fr-a")], now=max(times) + rest)

    assert all(span.width > LEAST_PERCENT - 1e-6 for span in lane.spans)
    assert all(
        one.left + one.width <= other.left + 1e-6
        for one, other in zip(lane.spans, lane.spans[1:], strict=False)
    )
    assert lane.spans[-1].left + lane.spans[-1].width <= 100 + 1e-6
