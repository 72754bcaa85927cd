"""The ask of the runner in the guest: hold it until its job is there, and hand that job over.

The same answer is given again until the first job call, because a runner that did not get it whole
asks again; afterwards 204. Nothing is delivered that GitLab does not confirm at that moment: the
runner would run the script even of a job that is gone (commands/single.go).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from firerunner.errors import StaleWrite, Unreachable
from firerunner.gate.credentials import MAX_SECRET_CHARS, prove
from firerunner.gate.desk import Desk
from firerunner.gate.events import GuestAsked, JobDelivered, JobDropped, JobFinal
from firerunner.gate.exchange import ClientGone, Exchange
from firerunner.gate.refusals import Kind, Refusal
from firerunner.gitlab.jobs import JobReply, JobStatus
from firerunner.ledger.records import JobRecord, MachineRecord
from firerunner.ledger.states import JobState, MachineState

_READY: Final = frozenset({MachineState.WAITING, MachineState.BUSY})
_LATE: Final = frozenset({MachineState.FAILED, MachineState.RETIRING})
_DELIVERABLE: Final = frozenset({JobState.ASSIGNED, JobState.DELIVERED})
_COMING: Final = frozenset({None, JobState.TAKEN})

UPSTREAM_RETRY_S = 2.0


class Bell:
    """Wakes the asks that a machine has open."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def ring(self, machine_id: str) -> None:
        for event in self._waiting.get(machine_id, ()):
            event.set()

    def ring_all(self) -> None:
        for machine_id in self._waiting:
            self.ring(machine_id)

    @contextmanager
    def listening(self, machine_id: str) -> Iterator[asyncio.Event]:
        event = asyncio.Event()
        self._waiting.setdefault(machine_id, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[machine_id].discard(event)
            if not self._waiting[machine_id]:
                del self._waiting[machine_id]

    def held(self) -> int:
        """How many asks are held now."""
        return sum(len(events) for events in self._waiting.values())


class Delivery:
    """Answers asks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.bell = Bell()
        self.closing = False

    async def ask(self, exchange: Exchange, machine_id: str) -> None:
        """One `POST /jobs/request`."""
        machine = await self._admit(exchange, machine_id)
        self._desk.tell(GuestAsked(machine_id))
        payload = None
        if machine.state in _READY:
            payload = await self._wait_for_payload(exchange, machine_id)
        if payload is None:
            await exchange.answer(204)
            return
        _, raw = payload
        await exchange.answer(
            201, [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())], raw
        )
        self._desk.count("delivered", "job")

    async def _admit(self, exchange: Exchange, machine_id: str) -> MachineRecord:
        limits = self._desk.limits
        header = exchange.header("runner-token")
        said = _read_ask(await exchange.body(limits.json_body_bytes, limits.body_timeout_s))
        if header is not None and header != said:
            raise Refusal(403, Kind.WRONG_CREDENTIAL, "header and body name two different credentials")
        machine = await prove(self._desk.ledger, machine_id, said)
        if machine.ended_reported_at is not None:
            raise Refusal(403, Kind.AFTER_END, "this machine has said that it ended")
        if machine.boots == 0 or machine.state not in _READY | _LATE:
            raise Refusal(403, Kind.BEFORE_BOOT, "it has not said booted")
        return machine

    async def _wait_for_payload(self, exchange: Exchange, machine_id: str) -> tuple[int, bytes] | None:
        """The job's answer, or None if there is none for this machine (any more, or within the hold)."""
        loop = asyncio.get_running_loop()
        until, first = loop.time() + self._desk.limits.hold_s, True
        hung_up = asyncio.ensure_future(exchange.gone())
        try:
            with self.bell.listening(machine_id) as bell:
                while True:
                    bell.clear()
                    if self.closing:
                        raise Refusal(503, Kind.STARTING, "the gate is going down", retry_after_s=1)
                    machine, job, kept = await self._desk.ledger.offered(machine_id)
                    if machine is None or machine.state not in _READY:  # it is wanted no more
                        return None
                    if job is not None and job.state in _DELIVERABLE:
                        # Without its answer its first job call has been made: it is not given twice.
                        return await self._offer(job, machine_id, *kept) if kept else None
                    if job is not None and job.state is JobState.RUNNING:
                        if first:  # an older ask that wakes up now says nothing of the kind
                            self._desk.tell(JobDropped(job.job_id, machine_id))
                        return None
                    first = False
                    left_s = until - loop.time()
                    if (job.state if job else None) not in _COMING or left_s <= 0:
                        return None
                    await _first_of(bell, hung_up, min(left_s, self._desk.limits.recheck_s))
                    if hung_up.done():
                        raise ClientGone
        finally:
            hung_up.cancel()

    async def _offer(
        self, offered: JobRecord, machine_id: str, raw: bytes, token: str
    ) -> tuple[int, bytes] | None:
        """The job's answer, once GitLab has confirmed it and the ledger says `delivered`."""
        desk, job_id = self._desk, offered.job_id
        reply = await self._ask_gitlab(offered, token)
        if reply.over:
            desk.tell_gone(job_id, machine_id, reply.status, reply.job_status)
            return None
        if reply.job_status == JobStatus.CANCELING:
            await self._end_canceled(offered, machine_id, token)
            return None
        try:
            job, machine = await desk.ledger.deliver(job_id)
            desk.tell(JobDelivered(job_id, machine.machine_id))
            # Meanwhile it may have become another machine's, which then gets it at its own ask.
            return (job_id, raw) if job.machine_id == machine_id else None
        except StaleWrite:
            # It has been delivered before, or control has decided otherwise in the meantime.
            known = await desk.ledger.job_of_machine(machine_id)
            same = known is not None and known.job_id == job_id and known.state is JobState.DELIVERED
            return (job_id, raw) if same else None

    async def _ask_gitlab(self, job: JobRecord, token: str) -> JobReply:
        try:
            reply = await self._desk.speak_to(job.gitlab).keep(job.gitlab_job_id, token)
        except Unreachable as error:
            raise Refusal(
                503,
                Kind.UPSTREAM,
                "GitLab does not confirm the job now",
                retry_after_s=error.retry_after_s or UPSTREAM_RETRY_S,
            ) from error
        if not reply.accepted and not reply.over:
            raise Refusal(
                503,
                Kind.UPSTREAM,
                f"GitLab does not confirm the job: {reply.trouble}",
                retry_after_s=UPSTREAM_RETRY_S,
            )
        return reply

    async def _end_canceled(self, job: JobRecord, machine_id: str, token: str) -> None:
        """Nothing of the job has run, so there is no `after_script` to wait for: end it for GitLab."""
        job_id = job.job_id
        try:
            reply = await self._desk.speak_to(job.gitlab).fail(job.gitlab_job_id, token, tries=2)
        except Unreachable as error:
            raise Refusal(
                503, Kind.UPSTREAM, "GitLab does not answer", retry_after_s=error.retry_after_s or 2
            ) from error
        if reply.gone or not reply.accepted:
            self._desk.tell_gone(job_id, machine_id, reply.status, reply.job_status)
            return
        try:
            await self._desk.ledger.move_job(
                job_id,
                JobState.ENDED,
                reason="cancelled before it was delivered",
                gitlab_status="canceled",
                expect=_DELIVERABLE,
            )
        except StaleWrite:
            return
        self._desk.tell(JobFinal(job_id, machine_id, "canceled"))


def _read_ask(body: bytes) -> str:
    """The credential that an ask gives as its runner token. Raises `Refusal`."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, Kind.MALFORMED, "the body is not JSON") from None
    token = said.get("token") if isinstance(said, dict) else None
    if not isinstance(token, str) or not 0 < len(token) <= MAX_SECRET_CHARS:
        raise Refusal(400, Kind.MALFORMED, "the body holds no token")
    return token


async def _first_of(bell: asyncio.Event, hung_up: asyncio.Future[None], timeout_s: float) -> None:
    rung = asyncio.ensure_future(bell.wait())
    waited: set[asyncio.Future[Any]] = {rung, hung_up}
    try:
        await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        rung.cancel()
