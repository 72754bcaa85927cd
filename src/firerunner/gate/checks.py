"""May this machine speak about this job, with this token?

What the ledger says about a running job is kept in memory for a while, so that a trace patch costs no
query. Correctness does not rest on it: GitLab checks every token itself.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from firerunner.errors import BadAnswer
from firerunner.gate.credentials import MAX_SECRET_CHARS, digest, known_machine, same_digest
from firerunner.gate.desk import Desk
from firerunner.gate.ports import GuestFacts
from firerunner.gate.refusals import Kind, Refusal
from firerunner.gitlab.models import parse_answer
from firerunner.ledger.records import JobRecord
from firerunner.ledger.states import JobState

DEPENDENCIES: Final = "dependencies"
"""Journal event that outlives the payload: job ids and hashes of the tokens for their artifacts."""

LATELY_S: Final = 120.0

_OVER: Final = frozenset({JobState.ENDED, JobState.RETURNED})
_SPEAKING: Final = frozenset({JobState.DELIVERED, JobState.RUNNING})


@dataclass(slots=True)
class Tie:
    """A machine and its one job, as far as job calls need it."""

    machine_id: str
    job_id: int
    gitlab: str
    """The name of the job's GitLab."""
    gitlab_job_id: int
    token_digest: str = field(repr=False)
    facts: GuestFacts
    spoken: bool
    """True once the job's first call has been written down."""
    believed_until: float
    job_status: str | None = None
    """GitLab's last `Job-Status`."""
    trace_bytes: int = 0
    dependencies: Mapping[int, str] | None = field(default=None, repr=False)
    """Job id to hash of its token; None until it is needed."""
    answer: bytes | None = field(default=None, repr=False)
    """GitLab's, until the job's first call has been written down."""
    spoke_at: float = 0.0
    """When the runner last spoke about the job, as far as this process has heard."""
    heard_at: float = 0.0
    """When GitLab last answered it."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)


class Ties:
    """The ties of the machines that spoke lately."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._ties: OrderedDict[str, Tie] = OrderedDict()

    def spoke_at(self, machine_id: str) -> float:
        """When the machine's runner last spoke about its job; 0 if this process has not heard it."""
        tie = self._ties.get(machine_id)
        return tie.spoke_at if tie else 0.0

    def heard_at(self, machine_id: str) -> float:
        """When GitLab last answered the machine's runner; 0 if not since our start."""
        tie = self._ties.get(machine_id)
        return tie.heard_at if tie else 0.0

    def spoken(self) -> dict[str, tuple[float, float]]:
        """How long ago, in seconds, each machine's runner spoke and was answered, if that was lately."""
        now = self._desk.clock()
        ages = {name: (now - tie.spoke_at, now - tie.heard_at) for name, tie in self._ties.items()}
        return {name: age for name, age in ages.items() if age[0] < LATELY_S}

    def doubt(self, machine_id: str) -> None:
        """The next job call of this machine is checked against the ledger."""
        tie = self._ties.get(machine_id)
        if tie is not None:
            tie.believed_until = 0.0

    def drop(self, machine_id: str) -> None:
        """Its job is over."""
        self._ties.pop(machine_id, None)

    async def for_job(self, machine_id: str, gitlab_job_id: int, token: str | None) -> Tie:
        """The tie, if the job is this machine's and the token, where given, is the job's."""
        tie = await self.of(machine_id)
        if tie.gitlab_job_id != gitlab_job_id:
            raise Refusal(403, Kind.OTHER_JOB, f"job {gitlab_job_id} is not this machine's")
        if token is not None:
            self.check_token(tie, token)
        return tie

    def check_token(self, tie: Tie, token: str) -> None:
        if len(token) > MAX_SECRET_CHARS or not same_digest(digest(token), tie.token_digest):
            raise Refusal(403, Kind.WRONG_TOKEN, f"this is not the token of job {tie.job_id}")

    async def for_dependency(self, machine_id: str, dependency_id: int, token: str) -> Tie:
        """The tie, if its job depends on that job and was given this token for it."""
        tie = await self.of(machine_id)
        if tie.dependencies is None:
            tie.dependencies = await read_dependencies(self._desk, tie.job_id)
        known = tie.dependencies.get(dependency_id)
        if known is None:
            raise Refusal(
                403, Kind.NOT_A_DEPENDENCY, f"job {tie.job_id} does not depend on job {dependency_id}"
            )
        if len(token) > MAX_SECRET_CHARS or not same_digest(digest(token), known):
            raise Refusal(403, Kind.WRONG_TOKEN, f"this is not the token for job {dependency_id}")
        return tie

    async def of(self, machine_id: str) -> Tie:
        """The machine's tie. Raises `Refusal` if it has no job, or none that is still to be spoken of."""
        tie = self._ties.get(machine_id)
        if tie is not None and self._desk.clock() < tie.believed_until:
            self._ties.move_to_end(machine_id)
            return tie
        fresh = await self._load(machine_id)
        known = self._ties.get(machine_id)
        if known is not None and known.job_id == fresh.job_id:
            # Keep what only memory holds, and the lock that others may be waiting for.
            known.believed_until = fresh.believed_until
            known.token_digest = fresh.token_digest
            known.spoken = known.spoken or fresh.spoken
            known.answer = None if known.spoken else fresh.answer
            fresh = known
        self._ties[machine_id] = fresh
        self._ties.move_to_end(machine_id)
        if len(self._ties) > self._desk.limits.remembered:
            self._ties.popitem(last=False)
        return fresh

    async def _load(self, machine_id: str) -> Tie:
        found, job, token, answer = await self._desk.ledger.tied(machine_id)
        machine = known_machine(found)
        if job is None:
            raise Refusal(403, Kind.NO_JOB, "this machine has been given no job")
        if machine.ended_reported_at is not None:
            raise Refusal(403, Kind.AFTER_END, "this machine has said that it ended")
        if job.state in _OVER:
            self.drop(machine_id)
            raise job_over(job)
        if job.state not in _SPEAKING or token is None:
            raise Refusal(403, Kind.NO_JOB, "this machine has been given no job")
        return Tie(
            machine_id=machine_id,
            job_id=job.job_id,
            gitlab=job.gitlab,
            gitlab_job_id=job.gitlab_job_id,
            token_digest=digest(token),
            facts=self._desk.facts_of(machine),
            spoken=job.state is JobState.RUNNING,
            believed_until=self._desk.clock() + self._desk.limits.remember_s,
            job_status=job.gitlab_status,
            trace_bytes=job.trace_bytes,
            answer=answer,
        )


def job_over(job: JobRecord) -> Refusal:
    """What GitLab itself would say about an ended job: a runner stops at it."""
    status = job.gitlab_status if job.state is JobState.ENDED else "failed"
    return Refusal(403, Kind.JOB_OVER, f"job {job.job_id} has ended", job_status=status or "failed")


async def read_dependencies(desk: Desk, job_id: int) -> Mapping[int, str]:
    """From the payload while it is there, else from the journal row that was written before it went."""
    raw = await desk.ledger.payload(job_id)
    if raw is not None:
        return dependency_digests(raw)
    rows = await desk.ledger.journal(subject=str(job_id))
    noted = [row.detail for row in rows if row.event == DEPENDENCIES and row.subject_kind == "job"]
    return {int(key): str(value) for key, value in noted[-1].items()} if noted else {}


def read_payload(raw: bytes) -> tuple[dict[int, str], float | None]:
    """Job id to hash of the token for its artifacts; and how long the job had been pending (seconds)."""
    try:
        answer = parse_answer(raw)
    except BadAnswer:
        return {}, None
    digests = {one.id: digest(one.token) for one in answer.dependencies}
    return digests, answer.job_info.time_in_queue_seconds


def dependency_digests(raw: bytes) -> dict[int, str]:
    """The first part of `read_payload`."""
    return read_payload(raw)[0]
