"""The report adds up what the journal says, and nothing that it does not say any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from firerunner.ledger import JournalEntry
from firerunner.reporting import By, Line, Outcome, Reporter
from tests.unit.operators.operators_given import MIDNIGHT, HeldClock, days_work, ledger_of, settings_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def journal(config: Path) -> list[JournalEntry]:
    clock = HeldClock()
    async with ledger_of(settings_of(config), clock) as ledger:
        await days_work(ledger, clock)
        return await ledger.journal(0, None, 1000)


def report(entries: list[JournalEntry], *by: By, since: float = 0.0) -> list[Line]:
    reporter = Reporter({}, since)
    for entry in entries:
        reporter.take(entry)
    return reporter.lines(by, now=MIDNIGHT + 86_400 + 90)


async def test_projects_with_their_outcomes_waits_and_minutes(journal: list[JournalEntry]) -> None:
    lines = {line.group[By.PROJECT]: line for line in report(journal, By.PROJECT)}

    assert lines["group/project"].outcomes == {Outcome.SUCCESS: 1, Outcome.OPEN: 1}
    assert lines["group/project"].wait_median_s == lines["group/project"].wait_longest_s == 20.0
    assert lines["group/project"].machine_minutes == pytest.approx((120 + 30) / 60)
    assert lines["group/other"].outcomes == {Outcome.RETURNED: 1}
    assert lines["group/other"].wait_median_s is None
    assert lines["group/other"].machine_minutes == pytest.approx(1.0)
    assert (lines["(no job)"].jobs, lines["(no job)"].machine_minutes) == (0, pytest.approx(0.5))


async def test_days_and_pools_in_the_order_that_is_asked_for(journal: list[JournalEntry]) -> None:
    lines = report(journal, By.DAY, By.POOL)

    assert [line.group[By.DAY] for line in lines] == ["2025-10-10", "2025-10-11"]
    assert [line.jobs for line in lines] == [1, 2]
    assert list(lines[0].flat())[:3] == ["day", "pool", "jobs"]


async def test_only_what_began_since_then(journal: list[JournalEntry]) -> None:
    (line,) = report(journal, By.DAY, since=MIDNIGHT + 86_400)

    assert line.group[By.DAY] == "2025-10-11"


async def test_a_job_whose_beginning_is_pruned_is_left_out_with_its_machine(
    journal: list[JournalEntry],
) -> None:
    taken = next(number for number, row in enumerate(journal) if (row.subject, row.event) == ("7", "taken"))

    lines = report(journal[taken + 1 :], By.PROJECT)

    assert {line.group[By.PROJECT]: line.jobs for line in lines} == {
        "group/project": 1,
        "group/other": 1,
        "(no job)": 0,
    }
    assert sum(line.machine_minutes for line in lines) == pytest.approx(0.5 + 1.0 + 0.5)
