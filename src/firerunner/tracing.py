"""Turns what the packages tell (moves, calls, hooks) into one trace for each job, from hook or ask to gone.

Nothing here is a secret: names of jobs, projects, pools, hosts and machines, endpoints and statuses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from firerunner.gitlab.measured import Call
from firerunner.ledger import JobRecord, JobState, MachineRecord, MachineState
from firerunner.ledger.moves import JobMove, MachineMove, Move
from firerunner.telemetry.about import MACHINE
from firerunner.telemetry.spans import Span, Value

REMEMBERED = 10_000
"""Jobs, machines and projects of which something is kept."""
HOOK_COUNTS_S = 60.0
"""A hook of its project that is older than this when the ask begins has not caused it."""
_OVER = frozenset({JobState.ENDED, JobState.RETURNED})
_ERRORS = 400

T = TypeVar("T")
Key = tuple[str, int]


@dataclass(slots=True)
class _Trace:
    """A job as far as its trace needs it."""

    start: float
    attributes: dict[str, Value] = field(default_factory=dict)
    is_over: bool = False
    failed: bool = False


class Tracing:
    """Gives spans to `send`. It is an onlooker of the ledger."""

    def __init__(self, send: Callable[[Span], None], clock: Callable[[], float]) -> None:
        self._send = send
        self._clock = clock
        self._traces: OrderedDict[Key, _Trace] = OrderedDict()
        self._jobs: OrderedDict[str, Key] = OrderedDict()
        """By machine id."""
        self._asks: OrderedDict[str, Call] = OrderedDict()
        self._ended_at: OrderedDict[str, float] = OrderedDict()
        """When calls ended, by machine id."""
        self._hooks: OrderedDict[Key, float] = OrderedDict()
        """By GitLab and project: when its last hook came."""
        self._numbers: OrderedDict[Key, int] = OrderedDict()
        """The ledger's own numbers of jobs, where they are not GitLab's."""

    # What is told

    def hooked(self, gitlabs: Iterable[str], project_id: int | None) -> None:
        """A hook has come."""
        if project_id is not None:
            for gitlab in gitlabs:
                _remember(self._hooks, (gitlab, project_id), self._clock())

    def moved(self, move: Move) -> None:
        """A write has been committed."""
        if isinstance(move, JobMove):
            self._job_moved(move)
        else:
            self._machine_moved(move)

    def took(self, operation: str, seconds: float, *, failed: bool) -> None:
        """The ledger's own time is not a job's."""

    def heard(self, gitlab: str, call: Call) -> None:
        """A call to a GitLab is over; it is in a trace if it is about a job or about a job's machine."""
        machine_id = MACHINE.get()
        if call.endpoint == "ask":
            _remember(self._asks, machine_id, call)  # whose job it brings is known only when that is taken
            _remember(self._ended_at, machine_id, self._clock())
            return
        if call.job is not None:
            key = gitlab, self._numbers.get((gitlab, call.job), call.job)
        elif machine_id in self._jobs:
            key = self._jobs[machine_id]
        else:
            return
        self._call(key, call, self._clock())

    def drove(self, operation: str, machine: MachineRecord, seconds: float, *, failed: bool) -> None:
        """A driver's call is over."""
        key = self._jobs.get(machine.machine_id)
        if key is not None:
            now = self._clock()
            told: dict[str, Value] = {
                "firerunner.host": machine.host,
                "firerunner.machine.id": machine.machine_id,
            }
            name = f"driver {operation}"
            self._send(Span(*key, name, now - seconds, now, told, is_call=True, failed=failed))

    # What becomes of it

    def _job_moved(self, move: JobMove) -> None:
        job = move.job
        key = job.gitlab, job.job_id
        if move.was is None:
            self._taken(key, job, move.machine)
            return
        self._send(Span(*key, f"job {move.was}", job.state_since - move.stayed_s, job.state_since))
        if job.machine_id is not None and job.state not in _OVER:
            _remember(self._jobs, job.machine_id, key)
        if job.state in _OVER:
            trace = self._trace(key, job.taken_at)
            trace.is_over, trace.failed = True, job.state is JobState.RETURNED
            trace.attributes["firerunner.job.state"] = str(job.state)
            trace.attributes["firerunner.job.status"] = job.gitlab_status or "unknown"
            if job.machine_id is None:
                self._end(key, job.state_since)

    def _taken(self, key: Key, job: JobRecord, machine: MachineRecord | None) -> None:
        asked_at = machine.ask_started_at if machine and machine.ask_started_at else job.taken_at
        hooked_at = self._hooks.get((job.gitlab, job.project_id), 0.0)
        is_hooked = asked_at - HOOK_COUNTS_S <= hooked_at <= asked_at
        trace = self._trace(key, hooked_at if is_hooked else asked_at)
        trace.attributes |= {
            "firerunner.gitlab": job.gitlab,
            "firerunner.job.id": job.gitlab_job_id,
            "firerunner.job.name": job.name,
            "firerunner.project": job.project_path,
            "firerunner.pool": job.pool,
            "firerunner.woken_by": "hook" if is_hooked else "ask",
        }
        if job.job_id != job.gitlab_job_id:
            _remember(self._numbers, (job.gitlab, job.gitlab_job_id), job.job_id)
        self._send(Span(*key, "ask", asked_at, job.taken_at))
        call = self._asks.pop(machine.machine_id, None) if machine else None
        if call is not None and machine is not None:
            self._call(key, call, self._ended_at.pop(machine.machine_id, job.taken_at))

    def _machine_moved(self, move: MachineMove) -> None:
        machine = move.machine
        if machine.job_id is not None:
            _remember(self._jobs, machine.machine_id, (machine.gitlab, machine.job_id))
        key = self._jobs.get(machine.machine_id)
        if key is not None and move.was is not None:
            told: dict[str, Value] = {
                "firerunner.host": machine.host,
                "firerunner.machine.id": machine.machine_id,
            }
            failed = machine.state is MachineState.FAILED
            begun = max(machine.state_since - move.stayed_s, self._begun(key))  # it may have waited
            self._send(Span(*key, f"machine {move.was}", begun, machine.state_since, told, failed=failed))
        if machine.state is MachineState.GONE:
            self._jobs.pop(machine.machine_id, None)
            self._asks.pop(machine.machine_id, None)
            self._ended_at.pop(machine.machine_id, None)
            if key is not None and machine.job_id is not None:
                self._gone(key, machine)

    def _gone(self, key: Key, machine: MachineRecord) -> None:
        """A job whose machine died before delivery goes on; one that is over by another controller's gate is
        told by its guest's word."""
        trace = self._trace(key, machine.created_at)
        trace.attributes |= {"firerunner.host": machine.host, "firerunner.machine.id": machine.machine_id}
        if trace.is_over or machine.ended_reported_at is not None:
            self._end(key, machine.state_since)

    def _end(self, key: Key, at: float) -> None:
        trace = self._traces.pop(key)
        self._send(Span(*key, "job", trace.start, at, trace.attributes, is_root=True, failed=trace.failed))

    def _call(self, key: Key, call: Call, ended_at: float) -> None:
        told: dict[str, Value] = {"firerunner.endpoint": call.endpoint}
        if call.status is not None:
            told["http.response.status_code"] = call.status
        failed = call.status is None or call.status >= _ERRORS
        name = f"GitLab {call.endpoint}"
        begun = max(ended_at - call.seconds, self._begun(key))  # two clocks
        self._send(Span(*key, name, begun, ended_at, told, is_call=True, failed=failed))

    def _begun(self, key: Key) -> float:
        known = self._traces.get(key)
        return known.start if known is not None else 0.0

    def _trace(self, key: Key, start: float) -> _Trace:
        """The job's; a new one, from `start` on, of a job that was taken before this process led."""
        known = self._traces.get(key)
        if known is None:
            known = _Trace(start)
            _remember(self._traces, key, known)
        return known


K = TypeVar("K")


def _remember(table: OrderedDict[K, T], key: K, value: T) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > REMEMBERED:
        table.popitem(last=False)
