"""Pure: what the journal says of jobs and machines, added up by project, pool and day."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from firerunner.ledger import JobState, JournalEntry, MachineState

NO_JOB = "(no job)"
"""Stands for the project of machines that never got a job, such as warm ones that were not needed."""


class By(StrEnum):
    """What a report may be divided by."""

    PROJECT = "project"
    POOL = "pool"
    DAY = "day"  # in UTC: that of the job's hand-over, of a machine without a job that of its making


class Outcome(StrEnum):
    """What became of a job."""

    SUCCESS = "success"
    FAILED = "failed"
    CANCELED = "canceled"
    RETURNED = "returned"  # we failed it as ours to fail (`runner_system_failure`)
    OTHER = "other"  # over, and GitLab's last word is not known
    OPEN = "open"  # not over yet


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report."""

    group: Mapping[By, str]
    jobs: int
    outcomes: Mapping[Outcome, int]
    wait_median_s: float | None
    """From GitLab's hand-over to the runner's first word; of the jobs whose runner has spoken."""
    wait_p95_s: float | None
    wait_longest_s: float | None
    machine_minutes: float
    """From the start of a machine's making until its host has its room back."""

    def flat(self) -> dict[str, object]:
        """One value for each column, for CSV and JSON."""
        return {
            **{str(by): value for by, value in self.group.items()},
            "jobs": self.jobs,
            **{str(outcome): self.outcomes.get(outcome, 0) for outcome in Outcome},
            "wait_median_s": _rounded(self.wait_median_s),
            "wait_p95_s": _rounded(self.wait_p95_s),
            "wait_longest_s": _rounded(self.wait_longest_s),
            "machine_minutes": _rounded(self.machine_minutes),
        }


@dataclass(slots=True)
class _Job:
    project: str
    pool: str
    taken_at: float
    spoke_at: float | None = None
    outcome: Outcome = Outcome.OPEN


@dataclass(slots=True)
class _Machine:
    made_at: float
    pool: str | None
    ended_at: float | None = None
    job: str | None = None


@dataclass(slots=True)
class _Sum:
    waits: list[float] = field(default_factory=list)
    outcomes: dict[Outcome, int] = field(default_factory=dict)
    seconds: float = 0.0


class Reporter:
    """Takes the journal in, row by row and in order, and then tells the lines.

    What began before its first row is left out: of a job whose hand-over has been pruned, neither its wait
    nor its machine's time is known any more.
    """

    def __init__(self, pools: Mapping[str, str], since: float = -math.inf) -> None:
        """`pools`: machine id → pool, for machines whose own first row may be gone. `since`: Unix seconds."""
        self._pools = dict(pools)
        self._since = since
        self._jobs: dict[str, _Job] = {}
        self._machines: dict[str, _Machine] = {}
        self._of_machine: dict[str, str] = {}
        self.reaches_back_to: float | None = None
        """When the oldest row was written (Unix seconds)."""

    def take(self, entry: JournalEntry) -> None:
        """One more row."""
        if self.reaches_back_to is None:
            self.reaches_back_to = entry.at
        if entry.subject_kind == "job":
            self._job(entry)
        elif entry.subject_kind == "machine":
            self._machine(entry)

    def lines(self, by: Sequence[By], now: float) -> list[Line]:
        """The report, sorted by its groups. Machines that are still there count until `now` (Unix
        seconds)."""
        sums: dict[tuple[str, ...], _Sum] = {}
        for job in self._jobs.values():
            if job.taken_at < self._since:
                continue
            total = sums.setdefault(self._group(by, job.project, job.pool, job.taken_at), _Sum())
            total.outcomes[job.outcome] = total.outcomes.get(job.outcome, 0) + 1
            if job.spoke_at is not None:
                total.waits.append(job.spoke_at - job.taken_at)
        for machine_id, machine in self._machines.items():
            named = self._of_machine.get(machine_id)
            of = self._jobs.get(named) if named else None
            began_at = of.taken_at if of else machine.made_at
            if began_at < self._since or (named and of is None):
                continue
            pool = of.pool if of else machine.pool or "?"
            group = self._group(by, of.project if of else NO_JOB, pool, began_at)
            sums.setdefault(group, _Sum()).seconds += max(0.0, (machine.ended_at or now) - machine.made_at)
        return [_line(dict(zip(by, group, strict=True)), total) for group, total in sorted(sums.items())]

    def _group(self, by: Sequence[By], project: str, pool: str, at: float) -> tuple[str, ...]:
        day = datetime.fromtimestamp(at, UTC).date().isoformat()
        words = {By.PROJECT: project, By.POOL: pool, By.DAY: day}
        return tuple(words[each] for each in by)

    def _job(self, entry: JournalEntry) -> None:
        if entry.event == "taken":
            project, pool = str(entry.detail.get("project", "?")), str(entry.detail.get("pool", "?"))
            self._jobs[entry.subject] = _Job(project, pool, entry.at)
            return
        machine = entry.detail.get("machine")
        if machine and entry.to_state == JobState.ASSIGNED:
            self._of_machine[str(machine)] = entry.subject
        job = self._jobs.get(entry.subject)
        if job is None or entry.event != "moved":
            return
        if entry.to_state == JobState.RUNNING:
            job.spoke_at = entry.at
        elif entry.to_state == JobState.RETURNED:
            job.outcome = Outcome.RETURNED
        elif entry.to_state == JobState.ENDED:
            job.outcome = _outcome(entry.detail.get("gitlab_status"))

    def _machine(self, entry: JournalEntry) -> None:
        if entry.event == "reserved" and "pool" in entry.detail:
            self._pools[entry.subject] = str(entry.detail["pool"])
        elif entry.to_state == MachineState.CREATING:
            self._machines[entry.subject] = _Machine(entry.at, self._pools.get(entry.subject))
        elif entry.event == "room released" or entry.to_state == MachineState.GONE:
            machine = self._machines.get(entry.subject)
            if machine is not None and machine.ended_at is None:
                machine.ended_at = entry.at


def _outcome(status: object) -> Outcome:
    known = {Outcome.SUCCESS, Outcome.FAILED, Outcome.CANCELED}
    return next((each for each in known if each == status), Outcome.OTHER)


def _line(group: Mapping[By, str], total: _Sum) -> Line:
    waits = sorted(total.waits)
    return Line(
        group=group,
        jobs=sum(total.outcomes.values()),
        outcomes=total.outcomes,
        wait_median_s=_quantile(waits, 0.5),
        wait_p95_s=_quantile(waits, 0.95),
        wait_longest_s=waits[-1] if waits else None,
        machine_minutes=total.seconds / 60,
    )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest rank: a wait that a job really had."""
    if not ordered:
        return None
    return ordered[math.ceil(share * len(ordered)) - 1]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
