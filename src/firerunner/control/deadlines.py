"""Pure: how long a machine may stay in each state, and what is to be done when it is overdue."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from firerunner.ledger import JobRecord, JobState, MachineRecord, MachineState

CREATING_S = 120.0
DELIVERY_S = 120.0
AFTER_FINAL_S = 30.0
AFTER_CANCEL_S = 8.0
JOB_GRACE_S = 60.0
SILENT_S = 300.0
"""A runner speaks at least every 60 s, whatever its job does (reference: gitlab.md 3.5). Where a host does
not tell that a VMM has ended, this is how it is found."""
OPEN = frozenset({JobState.TAKEN, JobState.ASSIGNED, JobState.DELIVERED, JobState.RUNNING})


class Verdict(StrEnum):
    """What to do with an overdue machine."""

    FAIL = "fail"  # it broke a promise: give it up, settle its job
    RETIRE = "retire"  # its work is done, it only has not left


@dataclass(frozen=True, slots=True)
class Overdue:
    """A machine past a deadline, and why."""

    verdict: Verdict
    reason: str


def overdue(
    machine: MachineRecord,
    job: JobRecord | None,
    now: float,
    *,
    boot_s: float,
    job_s: float,
    spoke_at: float | None = None,
) -> Overdue | None:
    """The verdict on one machine, or None if it is in time.

    `boot_s` is the pool's boot timeout, `job_s` how long the job may run; both in seconds. `spoke_at`: when
    its runner last spoke, or could first have been heard (Unix seconds); None if nobody listens.
    """
    since = now - machine.state_since
    match machine.state:
        case MachineState.CREATING if since > CREATING_S:
            return Overdue(Verdict.FAIL, f"the driver did not make it within {CREATING_S:.0f} s")
        case MachineState.BOOTING if since > boot_s:
            return Overdue(Verdict.FAIL, f"the guest did not call the gate within {boot_s:.0f} s")
        case MachineState.WAITING if job is not None:
            return _waiting(job, now - max(machine.state_since, job.state_since))
        case MachineState.BUSY:
            return _busy(machine, job, now, job_s, spoke_at)
    return None


def _waiting(job: JobRecord, since: float) -> Overdue | None:
    if job.state not in OPEN:
        return Overdue(Verdict.RETIRE, f"its job ended before it was delivered ({job.gitlab_status})")
    if since > DELIVERY_S:
        return Overdue(Verdict.FAIL, f"its runner did not ask for the job within {DELIVERY_S:.0f} s")
    return None


def _busy(
    machine: MachineRecord, job: JobRecord | None, now: float, job_s: float, spoke_at: float | None
) -> Overdue | None:
    if job is None:
        return Overdue(Verdict.RETIRE, "busy without a job")
    since = now - machine.state_since
    if job.state in OPEN:
        if job.state is JobState.DELIVERED and since > DELIVERY_S:
            return Overdue(Verdict.FAIL, f"its runner said nothing about the job within {DELIVERY_S:.0f} s")
        if machine.ended_reported_at is not None and now - machine.ended_reported_at > AFTER_FINAL_S:
            return Overdue(Verdict.FAIL, "its guest said that it ended, with its job open, and did not go")
        if since > job_s + JOB_GRACE_S:
            return Overdue(
                Verdict.FAIL, f"the job ran longer than {job_s:.0f} s and its runner did not end it"
            )
        if spoke_at is not None and now - max(spoke_at, machine.state_since) > SILENT_S:
            return Overdue(Verdict.FAIL, f"its runner has said nothing for {SILENT_S:.0f} s")
        return None
    if machine.held_until is not None:
        return Overdue(Verdict.RETIRE, "its hold is over") if now >= machine.held_until else None
    if machine.ended_reported_at is not None:
        return Overdue(Verdict.RETIRE, f"its job ended ({job.gitlab_status})")
    allowed = AFTER_CANCEL_S if job.gitlab_status in {"canceled", None} else AFTER_FINAL_S
    if now - job.state_since > allowed:
        return Overdue(Verdict.RETIRE, f"its job ended ({job.gitlab_status}) but the guest did not")
    return None
