"""A pickup step by step, by the journal's times and the fake GitLab's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from firerunner.fakes.gitlab.calls import Call
from firerunner.fakes.gitlab.model import Job
from firerunner.ledger import JobRecord, Ledger

STEPS = (
    ("taken", "GitLab: pending to taken"),
    ("creating", "control: the machine's launch"),
    ("booting", "driver: VMM starts"),
    ("waiting", "guest: boots"),
    ("delivered", "runner asks, gate delivers"),
    ("running", "runner: reads the job"),
    ("output", "runner: starts the script"),
)
"""What has been reached, and what it took to get there from the one before."""


async def steps(ledger: Ledger, record: JobRecord, job: Job) -> dict[str, float]:
    """Seconds in each step. A machine that was there before its job has not booted for it."""
    at = {"taken": record.taken_at}
    for subject in (record.machine_id, str(record.job_id)):
        for entry in await ledger.journal(subject=subject, limit=1000):
            if entry.event == "moved" and entry.to_state:
                at.setdefault(entry.to_state, entry.at)
    at["output"] = job.first_trace_at or 0.0
    return between(job.at("pending") or 0.0, at)


def between(pending_at: float, at: Mapping[str, float]) -> dict[str, float]:
    """Seconds by step. What was reached before the job was taken is no step of it."""
    found, before = {}, pending_at
    for reached, text in STEPS:
        if reached in at and (reached == "taken" or at[reached] >= at["taken"]):
            found[text], before = at[reached] - before, at[reached]
    return found


def floor_steps(calls: Sequence[Call], job: Job, started_at: float) -> dict[str, float]:
    """Seconds in each step of a runner that was started by hand."""
    path = f"/api/v4/jobs/{job.id}"
    ask = next(
        c for c in calls if c.path.endswith("/jobs/request") and c.status == 201 and c.at >= started_at
    )
    answered = ask.answered_at or ask.at
    first = next(c for c in calls if c.path in {path, f"{path}/trace"} and c.at >= answered)
    names = dict(STEPS)
    return {
        "runner: starts by hand and asks": ask.at - started_at,
        names["taken"]: answered - ask.at,
        names["running"]: first.at - answered,
        names["output"]: (job.first_trace_at or 0.0) - first.at,
    }
