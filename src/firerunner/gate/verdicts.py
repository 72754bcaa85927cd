"""What GitLab's reply to a job call means for the job. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from firerunner.gate.refusals import Kind, Refusal
from firerunner.gate.routes import Activity
from firerunner.gitlab.jobs import JobReply, JobStatus

FINAL_STATES: Final = frozenset({"success", "failed"})
_FINAL_STATUSES: Final = frozenset({"success", "failed", "canceled"})
_CANCEL: Final = frozenset({JobStatus.CANCELING, JobStatus.CANCELED})

_ABORTS: Final = {Activity.UPDATE: frozenset({403, 404}), Activity.TRACE: frozenset({403})}
"""The statuses at which the runner gives the job up (network/gitlab.go). A 404 to a trace patch
is not among them, and may come from anything on the way."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a `PUT /jobs/N` says."""

    token: str | None
    state: str | None
    failure_reason: str | None
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """The job has ended in GitLab, by this update or by the same one whose answer got lost."""

    status: str
    failure_reason: str | None
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Gone:
    """The job is over or not ours, by GitLab's word and not by this runner's."""

    code: int
    job_status: str | None


def read_update(body: bytes) -> Said:
    """The body of a `PUT`. Raises `Refusal`."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, Kind.MALFORMED, "the body is not JSON") from None
    if not isinstance(said, dict):
        raise Refusal(400, Kind.MALFORMED, "the body is not a JSON object")
    for key in ("token", "state", "failure_reason"):
        if not isinstance(said.get(key), str | None):
            raise Refusal(400, Kind.MALFORMED, f"{key} is not a string")
    exit_code = said.get("exit_code")
    if isinstance(exit_code, bool) or not isinstance(exit_code, int | None):
        raise Refusal(400, Kind.MALFORMED, "exit_code is not a number")
    return Said(said.get("token"), said.get("state"), said.get("failure_reason"), exit_code)


def judge(
    activity: Activity, said: Said | None, reply: JobReply, last_status: str | None
) -> Ended | Gone | None:
    """Final, gone, or neither. `last_status` is the `Job-Status` of the reply before this one.

    A final update is judged first: GitLab answers it with 200 and `Job-Status: failed`. If it says 403 and
    names a final status, the job ended before, most often by the same update whose answer was lost on
    the way to us. A job that was being cancelled ends as `canceled`, whatever its runner reports.
    """
    is_final = activity is Activity.UPDATE and said is not None and said.state in FINAL_STATES
    before = reply.gone and reply.job_status in _FINAL_STATUSES
    if said is not None and is_final and (before or (reply.accepted and reply.status == 200)):
        status = str(said.state)
        if reply.job_status in _FINAL_STATUSES:
            status = str(reply.job_status)
        elif {last_status, reply.job_status} & _CANCEL:
            status = "canceled"
        return Ended(status, said.failure_reason if status == "failed" else None, said.exit_code)
    aborted = reply.status in _ABORTS.get(activity, frozenset())
    stopped = reply.job_status in {JobStatus.CANCELED, JobStatus.FAILED}
    return Gone(reply.status, reply.job_status) if aborted or stopped else None
