"""Each state has a deadline of its own, and a verdict for who misses it."""

from __future__ import annotations

import dataclasses

import pytest

from firerunner.control.deadlines import AFTER_CANCEL_S, AFTER_FINAL_S, SILENT_S, Verdict, overdue
from firerunner.ledger import JobRecord, JobState, MachineRecord, MachineState
from firerunner.machines.spec import Resources

BOOT_S, JOB_S = 90.0, 3600.0
LIVE = (MachineState.CREATING, MachineState.BOOTING, MachineState.WAITING, MachineState.BUSY)


def machine(state: MachineState) -> MachineRecord:
    return MachineRecord(
        machine_id="fr-000000000000",
        pool="small",
        host="local",
        state=state,
        state_since=1000.0,
        resources=Resources(1, 256, 1024),
        image_digest="0" * 64,
        created_at=990.0,
        job_id=7,
    )


def job(state: JobState, status: str | None = None) -> JobRecord:
    return JobRecord(
        job_id=7,
        gitlab="gitlab",
        gitlab_job_id=7,
        pool="small",
        machine_id="fr-000000000000",
        state=state,
        state_since=2000.0,
        name="unit",
        project_id=1,
        project_path="demo/sample",
        timeout_s=3600,
        taken_at=995.0,
        gitlab_status=status,
    )


@pytest.mark.parametrize("state", LIVE)
def test_a_machine_in_time_is_left_alone(state: MachineState) -> None:
    assert overdue(machine(state), job(JobState.ASSIGNED), 1001.0, boot_s=BOOT_S, job_s=JOB_S) is None


@pytest.mark.parametrize(
    ("state", "job_state", "said"),
    [
        (MachineState.CREATING, JobState.ASSIGNED, "driver did not make it"),
        (MachineState.BOOTING, JobState.ASSIGNED, "did not call the gate within 90 s"),
        (MachineState.WAITING, JobState.ASSIGNED, "did not ask for the job"),
        (MachineState.BUSY, JobState.RUNNING, "ran longer than 3600 s"),
    ],
)
def test_a_broken_promise_fails_the_machine(state: MachineState, job_state: JobState, said: str) -> None:
    found = overdue(machine(state), job(job_state), 1_000_000.0, boot_s=BOOT_S, job_s=JOB_S)

    assert found is not None
    assert found.verdict is Verdict.FAIL
    assert said in found.reason


def test_a_warm_machine_may_wait_as_long_as_it_likes() -> None:
    assert overdue(machine(MachineState.WAITING), None, 1_000_000.0, boot_s=BOOT_S, job_s=JOB_S) is None


def test_a_running_job_is_never_cut_before_its_deadline_and_grace() -> None:
    busy = machine(MachineState.BUSY)

    assert overdue(busy, job(JobState.RUNNING), 1000.0 + JOB_S + 59, boot_s=BOOT_S, job_s=JOB_S) is None


@pytest.mark.parametrize(
    ("status", "allowed_s"),
    [("success", AFTER_FINAL_S), ("failed", AFTER_FINAL_S), ("canceled", AFTER_CANCEL_S)],
)
def test_a_guest_that_stays_after_its_job_is_retired(status: str, allowed_s: float) -> None:
    busy, ended = machine(MachineState.BUSY), job(JobState.ENDED, status)

    in_time = overdue(busy, ended, 2000.0 + allowed_s, boot_s=BOOT_S, job_s=JOB_S)
    late = overdue(busy, ended, 2000.0 + allowed_s + 1, boot_s=BOOT_S, job_s=JOB_S)

    assert in_time is None
    assert late is not None
    assert late.verdict is Verdict.RETIRE


def test_a_guest_that_has_said_its_end_is_retired_at_once_also_if_nobody_listened_then() -> None:
    said = dataclasses.replace(machine(MachineState.BUSY), ended_reported_at=2000.0)

    found = overdue(said, job(JobState.ENDED, "success"), 2000.5, boot_s=BOOT_S, job_s=JOB_S)

    assert found is not None
    assert found.verdict is Verdict.RETIRE


@pytest.mark.parametrize(("now", "verdict"), [(2599.0, None), (2600.0, Verdict.RETIRE)])
def test_a_held_machine_stays_until_its_hold_is_over_although_its_guest_has_said_its_end(
    now: float, verdict: Verdict | None
) -> None:
    held = dataclasses.replace(machine(MachineState.BUSY), ended_reported_at=2000.0, held_until=2600.0)

    found = overdue(held, job(JobState.ENDED, "failed"), now, boot_s=BOOT_S, job_s=JOB_S)

    assert (found and found.verdict) is verdict


def test_a_machine_whose_job_was_cancelled_during_boot_is_retired() -> None:
    waiting = machine(MachineState.WAITING)

    found = overdue(waiting, job(JobState.ENDED, "canceled"), 1001.0, boot_s=BOOT_S, job_s=JOB_S)

    assert found is not None
    assert found.verdict is Verdict.RETIRE


@pytest.mark.parametrize("state", [MachineState.RESERVED, MachineState.FAILED, MachineState.RETIRING])
def test_states_that_others_end_have_no_deadline_here(state: MachineState) -> None:
    left = dataclasses.replace(machine(state), job_id=None)

    assert overdue(left, None, 1_000_000.0, boot_s=BOOT_S, job_s=JOB_S) is None


def test_a_runner_that_is_silent_for_long_is_given_up() -> None:
    busy, running, limits = (
        machine(MachineState.BUSY),
        job(JobState.RUNNING),
        {"boot_s": BOOT_S, "job_s": JOB_S},
    )
    spoke_at = 1500.0

    in_time = overdue(busy, running, spoke_at + SILENT_S, spoke_at=spoke_at, **limits)
    late = overdue(busy, running, spoke_at + SILENT_S + 1, spoke_at=spoke_at, **limits)

    assert in_time is None
    assert late is not None
    assert (late.verdict, "said nothing for 300 s" in late.reason) == (Verdict.FAIL, True)
