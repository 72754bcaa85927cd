"""What happens to a job becomes the right spans, also where machines die and others write."""

from __future__ import annotations

from dataclasses import replace

import pytest

from firerunner.gitlab.measured import Call
from firerunner.ledger import JobState, MachineState
from firerunner.ledger.moves import JobMove, MachineMove
from firerunner.telemetry.about import MACHINE
from firerunner.telemetry.spans import Span
from firerunner.tracing import Tracing
from tests.unit.telemetry.test_measuring import JOB
from tests.unit.telemetry.test_measuring import MACHINE as BARE

ASKED = replace(BARE, state=MachineState.RESERVED, ask_started_at=105.0)
OURS = replace(BARE, state=MachineState.BUSY, state_since=112.0, job_id=7)


class Given:
    """A tracing whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.spans: list[Span] = []
        self.tracing = Tracing(self.spans.append, lambda: self.now)

    def taken(self) -> None:
        self.tracing.moved(JobMove(JOB, machine=ASKED))
        self.tracing.moved(JobMove(replace(JOB, state=JobState.ASSIGNED), JobState.TAKEN, 0.0, ASKED))

    def over(self) -> None:
        job = replace(JOB, state=JobState.ENDED, state_since=120.0, gitlab_status="success")
        self.tracing.moved(JobMove(job, JobState.RUNNING, 8.0))

    def gone(self, **changes: object) -> None:
        gone = replace(OURS, state=MachineState.GONE, state_since=125.0, **changes)
        self.tracing.moved(MachineMove(gone, MachineState.RETIRING, 2.0))

    def root(self) -> Span:
        (root,) = [span for span in self.spans if span.is_root]
        return root


@pytest.mark.parametrize(
    ("hook_at", "begins"), [(104.0, 104.0), (30.0, 105.0), (106.0, 105.0), (None, 105.0)]
)
def test_it_begins_with_the_hook_that_caused_the_ask_or_with_the_ask(
    hook_at: float | None, begins: float
) -> None:
    given = Given()
    given.now = hook_at or 0.0
    given.tracing.hooked(("gitlab",) if hook_at else (), JOB.project_id)

    given.taken()
    given.over()
    given.gone()

    assert (given.root().start, given.root().end) == (begins, 125.0)
    assert given.root().attributes["firerunner.job.status"] == "success"


def test_the_call_of_the_ask_is_in_the_trace_of_the_job_that_it_brought() -> None:
    given = Given()
    given.now = 110.0
    token = MACHINE.set(ASKED.machine_id)

    given.tracing.heard("gitlab", Call("ask", 201, 4.0))
    MACHINE.reset(token)
    given.taken()

    (call,) = [span for span in given.spans if span.is_call]
    assert (call.name, call.start, call.end, call.job_id) == ("GitLab ask", 106.0, 110.0, 7)


def test_an_ask_that_brought_nothing_is_in_no_trace() -> None:
    given = Given()
    token = MACHINE.set("fr-zzzzzzzzzzzz")

    given.tracing.heard("gitlab", Call("ask", 204, 4.0))
    MACHINE.reset(token)
    given.taken()

    assert [span for span in given.spans if span.is_call] == []


def test_a_job_whose_first_machine_died_has_one_root_and_both_machines() -> None:
    given = Given()
    other = replace(ASKED, machine_id="fr-bbbbbbbbbbbb")

    given.taken()
    given.gone(job_id=7)
    given.tracing.moved(
        JobMove(
            replace(JOB, state=JobState.ASSIGNED, machine_id=other.machine_id), JobState.TAKEN, 1.0, other
        )
    )
    given.over()
    given.gone(machine_id=other.machine_id)

    assert {span.attributes.get("firerunner.machine.id") for span in given.spans if not span.is_root} >= {
        "fr-aaaaaaaaaaaa",
        "fr-bbbbbbbbbbbb",
    }
    assert given.root().attributes["firerunner.machine.id"] == "fr-bbbbbbbbbbbb"


def test_a_job_that_ended_at_another_controllers_gate_has_its_root_here() -> None:
    given = Given()

    given.taken()
    given.gone(ended_reported_at=121.0)

    assert given.root().start == 105.0


def test_a_job_that_was_taken_before_this_process_led_begins_with_its_machine() -> None:
    given = Given()

    given.over()
    given.gone()

    assert given.root().end == 125.0


def test_a_call_about_nothing_of_a_job_is_in_no_trace() -> None:
    given = Given()

    given.tracing.heard("gitlab", Call("runner_verify", 200, 0.1))
    given.tracing.drove("create", BARE, 0.5, failed=False)

    assert given.spans == []


def test_a_failed_call_and_a_returned_job_are_marked() -> None:
    given = Given()
    given.taken()

    given.tracing.heard("gitlab", Call("job_update", None, 5.0, job=7))
    given.tracing.moved(
        JobMove(replace(JOB, state=JobState.RETURNED, machine_id=None), JobState.ASSIGNED, 1.0)
    )

    assert [span.name for span in given.spans if span.failed] == ["GitLab job_update", "job"]
