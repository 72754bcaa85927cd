"""Which call a path means. Everything that is not in the table is 404."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from firerunner.machines.spec import MACHINE_ID


class Activity(StrEnum):
    """What a guest may do."""

    BOOTED = "booted"  # PID 1: I am here, give me my files.
    ENDED = "ended"  # PID 1: the runner has ended, I reboot.
    LOOK = "look"  # PID 1 of a held machine: what does the operator want to see?
    ASK = "ask"  # the runner asks for its job.
    UPDATE = "update"  # the runner reports the job's state.
    TRACE = "trace"  # the runner appends to the log.
    UPLOAD = "upload"  # artifacts of its job.
    DOWNLOAD = "download"  # artifacts of a job that its job depends on.
    DISCOVER = "discover"  # job router discovery.


@dataclass(frozen=True, slots=True)
class Route:
    """One understood path."""

    activity: Activity
    machine_id: str
    job_id: int | None = None


_API = "/api/v4"
_JOB = rf"{_API}/jobs/(?P<job_id>[1-9][0-9]{{0,17}})"

_TABLE: Final = tuple(
    (method, re.compile(rf"/m/(?P<machine_id>{MACHINE_ID.pattern}){path}"), activity)
    for method, path, activity in (
        ("PATCH", rf"{_JOB}/trace", Activity.TRACE),
        ("PUT", _JOB, Activity.UPDATE),
        ("POST", rf"{_API}/jobs/request", Activity.ASK),
        ("POST", rf"{_JOB}/artifacts", Activity.UPLOAD),
        ("GET", rf"{_JOB}/artifacts", Activity.DOWNLOAD),
        ("POST", "/guest/booted", Activity.BOOTED),
        ("POST", "/guest/ended", Activity.ENDED),
        ("POST", "/guest/look", Activity.LOOK),
        ("GET", rf"{_API}/runners/router/discovery", Activity.DISCOVER),
    )
)


def route(method: str, path: str) -> Route | None:
    """The call that a request means, or None."""
    for its_method, pattern, activity in _TABLE:
        if method == its_method and (found := pattern.fullmatch(path)):
            job_id = found.groupdict().get("job_id")
            return Route(activity, found["machine_id"], int(job_id) if job_id else None)
    return None
