"""FireRunner's own part of a pickup: the time in which the job waits for control, intake or gate. Pure.

From `pending` to the first output a job is, at each moment, in somebody's hands: GitLab's (a hook on its way,
a call that GitLab answers), the driver's (the VMM starts), the guest's (it boots, its runner works), or
FireRunner's. The last is what is summed up here:

| part | from | to |
|---|---|---|
| hook to ask | the hook has come to the webhook's door | the ask comes to GitLab; 0 if it was there before |
| ask to machine | GitLab has answered the ask | the driver is called for the machine; not for a warm one |
| boot answered | PID 1's `booted` has come to the gate | its files have been sent; not for a warm one |
| confirm | GitLab has answered the ask and the guest asks | the gate's question comes to GitLab |
| delivery | GitLab has confirmed the job | the job has been sent to the guest |
| job calls | a job call of the runner has come | it has been answered, less GitLab's time for it |

The last job call is the one with the first output, of which only the way to GitLab counts. GitLab's time is
taken at GitLab, from a call's arrival to the start of its answer, so the way there and back and the HTTP
client's work count as ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.marks import Kind, Mark


@dataclass(frozen=True, slots=True)
class Asked:
    """One call at GitLab. Times are Unix seconds, by the same clock as those of the marks."""

    method: str
    path: str
    at: float
    answered_at: float
    status: int


@dataclass(frozen=True, slots=True)
class Pickup:
    """One job's facts."""

    job_id: int
    machine_id: str
    pending_at: float
    taken_by: Asked
    """The ask that was answered with the job."""


def own_part(pickup: Pickup, marks: Sequence[Mark], calls: Sequence[Asked]) -> dict[str, float]:
    """Seconds by part, in the order of the table. Raises ValueError if a step is missing that all have."""
    gate = f"/m/{pickup.machine_id}"
    job = f"/api/v4/jobs/{pickup.job_id}"
    taken = pickup.taken_by
    parts: dict[str, float] = {}

    hooks = [mark.at for mark in marks if mark.kind is Kind.HOOK and mark.at >= pickup.pending_at]
    if hooks:
        parts["hook to ask"] = max(0.0, taken.at - min(hooks))

    creates = [m for m in marks if m.kind is Kind.CREATE and m.what == pickup.machine_id]
    if creates and creates[0].at >= taken.answered_at:
        parts["ask to machine"] = creates[0].at - taken.answered_at
        booted = _first(marks, f"POST {gate}/guest/booted", taken.answered_at)
        parts["boot answered"] = _length(booted)

    confirm = _called(calls, "PUT", job, taken.answered_at)
    ask = _first(marks, f"POST {gate}/api/v4/jobs/request", taken.answered_at, by_end=True)
    parts["confirm"] = confirm.at - max(taken.answered_at, ask.at)
    parts["delivery"] = _end(ask) - confirm.answered_at

    patch = _first(marks, f"PATCH {gate}{job}/trace", _end(ask))
    parts["job calls"] = _called(calls, "PATCH", f"{job}/trace", patch.at).at - patch.at
    for mark in marks:  # not every runner says `running` before its first output
        if mark.what == f"PUT {gate}{job}" and mark.until is not None and _end(ask) <= mark.at < patch.at:
            there = _called(calls, "PUT", job, mark.at)
            parts["job calls"] += _length(mark) - (there.answered_at - there.at)
    return parts


def _first(marks: Iterable[Mark], what: str, since: float, *, by_end: bool = False) -> Mark:
    """The first such call that was answered; by its end for one that may have been held since long before."""
    for mark in marks:
        if mark.what == what and mark.until is not None and (mark.until if by_end else mark.at) >= since:
            return mark
    raise ValueError(f"{what} was not seen")


def _called(calls: Iterable[Asked], method: str, path: str, since: float) -> Asked:
    for call in calls:
        if (call.method, call.path) == (method, path) and call.at >= since:
            return call
    raise ValueError(f"{method} {path} did not come to GitLab")


def _end(mark: Mark) -> float:
    assert mark.until is not None
    return mark.until


def _length(mark: Mark) -> float:
    return _end(mark) - mark.at
