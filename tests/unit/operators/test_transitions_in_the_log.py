"""Each change of state is one line of the log, which names job, machine, host and project."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from firerunner.errors import StaleWrite
from firerunner.ledger import JobState, MachineState
from tests.unit.operators.operators_given import HeldClock, days_work, ledger_of, machine_id, settings_of

pytestmark = pytest.mark.anyio


async def test_one_line_for_each_transition(config: Path) -> None:
    clock = HeldClock()
    async with ledger_of(settings_of(config), clock) as ledger:
        with capture_logs() as lines:
            await days_work(ledger, clock)
        rows = await ledger.journal(0, None, 1000)

    moved = Counter(f"{row.subject_kind} {row.to_state}" for row in rows if row.to_state)
    assert Counter(line["event"] for line in lines) == moved
    of_job = [line for line in lines if line.get("job") == 7]
    assert [line["event"] for line in of_job] == [
        *("job taken", "job assigned", "machine busy", "job delivered", "job running", "job ended"),
        *("machine retiring", "machine gone"),
    ]
    for line in of_job[1:]:
        assert [line[name] for name in ("machine", "host", "project", "pool")] == [
            *(machine_id(1), "local", "group/project", "small"),
        ]
    returned = next(line for line in lines if line["event"] == "job returned")
    assert [returned[name] for name in ("log_level", "was", "reason")] == [
        *("warning", "assigned", "its machine died"),
    ]


async def test_what_was_not_written_is_not_told(config: Path) -> None:
    clock = HeldClock()
    async with ledger_of(settings_of(config), clock) as ledger:
        await days_work(ledger, clock)
        with capture_logs() as lines, pytest.raises(StaleWrite):
            await ledger.move_job(9, JobState.ENDED, expect=JobState.RUNNING)
        with capture_logs() as others, pytest.raises(StaleWrite):
            await ledger.move_machine(machine_id(4), MachineState.GONE, expect=MachineState.RETIRING)

    assert lines == others == []
