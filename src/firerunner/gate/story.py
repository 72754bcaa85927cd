"""What job calls tell us about the job, written down: its first word, its growing log, its end."""

from __future__ import annotations

from typing import Final

from firerunner.errors import LedgerError, StaleWrite
from firerunner.gate.checks import DEPENDENCIES, Tie, Ties, read_payload
from firerunner.gate.desk import Desk, log
from firerunner.gate.events import JobFinal, JobSpoke
from firerunner.gate.lengths import Lengths
from firerunner.gate.refusals import Kind, Refusal
from firerunner.gate.routes import Activity
from firerunner.gate.verdicts import Ended, Gone, Said, judge
from firerunner.gitlab.carrying import Incoming
from firerunner.gitlab.jobs import read_reply, trace_size
from firerunner.ledger.states import JobState

_OPEN: Final = frozenset({JobState.DELIVERED, JobState.RUNNING})


class Story:
    """Writes into the ledger, then tells control."""

    def __init__(self, desk: Desk, ties: Ties) -> None:
        self._desk = desk
        self._ties = ties
        self._lengths = Lengths(desk)

    async def first_word(self, tie: Tie) -> None:
        """Write the job's first call down, before it leaves: from now on the answer is not given again."""
        tie.spoke_at = self._desk.clock()
        if tie.spoken:
            return
        async with tie.lock:
            if tie.spoken:
                return
            queued_s = await self._note_dependencies(tie)
            try:
                await self._desk.ledger.move_job(tie.job_id, JobState.RUNNING, expect=JobState.DELIVERED)
                first = True
            except StaleWrite:
                await self._check_running(tie)
                first = False
            tie.spoken, tie.answer = True, None
        if first:
            self._desk.sights.first_word(tie.job_id, queued_s)
            self._desk.tell(JobSpoke(tie.job_id, tie.machine_id))

    async def _note_dependencies(self, tie: Tie) -> float | None:
        """The payload goes now; what it allows must outlive it, and a restart. Its word on the queue."""
        if tie.answer is None:
            return None
        tie.dependencies, queued_s = read_payload(tie.answer)
        if tie.dependencies:
            noted = {str(job_id): token_digest for job_id, token_digest in tie.dependencies.items()}
            await self._desk.ledger.note("job", str(tie.job_id), DEPENDENCIES, noted)
        return queued_s

    async def _check_running(self, tie: Tie) -> None:
        """Another call was first, or control has ended the job."""
        job = await self._desk.ledger.job_of_machine(tie.machine_id)
        if job is None or job.job_id != tie.job_id or job.state is not JobState.RUNNING:
            self._ties.drop(tie.machine_id)
            raise Refusal(403, Kind.JOB_OVER, f"job {tie.job_id} has ended", job_status="failed")

    async def replied(self, tie: Tie, activity: Activity, said: Said | None, response: Incoming) -> None:
        """GitLab has replied to an update or a trace patch; only status and headers are looked at.

        GitLab's answer is worth more to the guest than our book-keeping, so a ledger that fails here is
        logged and counted, and no more.
        """
        try:
            await self._observe(tie, activity, said, response)
        except LedgerError:
            self._desk.count("fault", "ledger")
            log.exception("a reply could not be written down", job_id=tie.job_id, status=response.status)

    async def _observe(self, tie: Tie, activity: Activity, said: Said | None, response: Incoming) -> None:
        reply = read_reply(response.status, response.headers)
        tie.heard_at = self._desk.clock()
        verdict = judge(activity, said, reply, tie.job_status)
        tie.job_status = reply.job_status or tie.job_status
        known_bytes = tie.trace_bytes
        if activity is Activity.TRACE and response.status == 202:
            tie.trace_bytes = trace_size(response.headers.get("Range")) or tie.trace_bytes
            if not known_bytes and tie.trace_bytes:
                self._desk.sights.first_output(tie.job_id)
        if isinstance(verdict, Ended):
            await self._end(tie, verdict)
        elif isinstance(verdict, Gone):
            self._desk.tell_gone(tie.job_id, tie.machine_id, verdict.code, verdict.job_status)
        else:
            if tie.trace_bytes != known_bytes:
                self._lengths.note(tie.job_id, tie.trace_bytes)
            await self._lengths.write_when_due()

    async def _end(self, tie: Tie, verdict: Ended) -> None:
        self._ties.drop(tie.machine_id)
        if length := self._lengths.take(tie.job_id):
            await self._desk.ledger.set_trace_bytes(length)
        try:
            await self._desk.ledger.move_job(
                tie.job_id,
                JobState.ENDED,
                gitlab_status=verdict.status,
                failure_reason=verdict.failure_reason,
                expect=_OPEN,
            )
        except StaleWrite as error:
            log.warning("a final update came late", job_id=tie.job_id, why=str(error))
            return
        self._desk.tell(
            JobFinal(tie.job_id, tie.machine_id, verdict.status, verdict.failure_reason, verdict.exit_code)
        )
