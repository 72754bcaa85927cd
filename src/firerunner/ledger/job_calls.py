"""The ledger's calls about asks, jobs, and what of theirs is secret."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

from firerunner.ledger import (
    jobs,
    machines,
    secrets,
    sized,
)
from firerunner.ledger.handle import Handle
from firerunner.ledger.records import (
    JobRecord,
    MachineRecord,
    NewJob,
)
from firerunner.ledger.states import OPEN_JOBS, JobState
from firerunner.ledger.transaction import Transaction
from firerunner.machines.spec import Resources


class JobCalls(Handle):
    """From an ask that begins to a job that has ended."""

    async def begin_ask(
        self,
        machine_id: str,
        *,
        host: str | None = None,
        resources: Resources | None = None,
        image_digest: str | None = None,
        gitlab: str | None = None,
    ) -> MachineRecord:
        """Before an ask leaves: marks it in flight and holds the room.

        A kept id may be asked for again with another host, size or image, as long as nothing of it exists;
        never at another GitLab than the one that knows it (`StaleWrite`).
        """
        return await self._write(
            lambda tx: machines.begin_ask(
                tx, machine_id, host=host, resources=resources, image_digest=image_digest, gitlab=gitlab
            )
        )

    async def end_ask(self, machine_id: str, outcome: str = "") -> MachineRecord:
        """After an ask is over. A reserved machine that got nothing gives its room back, keeping its id.

        `outcome` is written into the journal; leave it empty for an ask that found nothing.
        """
        return await self._write(lambda tx: machines.end_ask(tx, machine_id, outcome))

    async def interrupted_asks(self) -> list[MachineRecord]:
        """Machines whose ask has begun and not ended: after a start, asks that a crash cut off."""
        return await self._read(machines.asking)

    async def keep_answer(self, machine_id: str, raw: bytes) -> None:
        """Write GitLab's answer down, encrypted, before anything looks at it. The same one twice is one.

        Not fenced: it decides nothing, and what GitLab has handed out is lost if it is not kept, whoever
        leads meanwhile.
        """
        await self._access.unfenced().write(lambda tx: secrets.keep_answer(tx, machine_id, raw, self._keys))

    async def unread_answers(self) -> list[tuple[str, bytes]]:
        """Machine id and answer, oldest first, of those that no job row has been made of."""
        stored = await self._read(secrets.unread)
        return [(machine_id, self._keys.decrypt(raw)) for machine_id, raw in stored]

    async def discard_answer(self, machine_id: str, reason: str) -> None:
        """Delete the machine's unread answers: they cannot be read, and `reason` says why."""
        await self._write(lambda tx: secrets.discard_answer(tx, machine_id, reason))

    async def take(self, machine_id: str, job: NewJob, answer: bytes | None = None) -> JobRecord:
        """Write a job down and give it to its machine, whose ask is over; the answer becomes its payload,
        and is kept by the same write if it is given.

        The job stays `taken`, without a machine, if the machine cannot take it any more. A second call
        with the same machine changes nothing; with another one it raises `StaleWrite`.
        """

        return await self._write(lambda tx: jobs.take(tx, machine_id, job, self._keys, answer))

    async def job(self, job_id: int) -> JobRecord | None:
        return await self._read(lambda tx: jobs.find(tx, job_id))

    async def knows_job(self, gitlab: str, gitlab_job_id: int) -> bool:
        """Whether that GitLab's job of this number has ever been taken."""
        return await self._read(lambda tx: jobs.knows(tx, gitlab, gitlab_job_id))

    async def jobs(self, states: Collection[JobState] = OPEN_JOBS) -> list[JobRecord]:
        """Oldest first."""
        return await self._read(lambda tx: jobs.select(tx, states))

    async def jobs_page(
        self, states: Collection[JobState] | None, *, before: int | None = None, limit: int
    ) -> list[JobRecord]:
        """The highest number first, those below `before`; of all states if None are given."""
        return await self._read(lambda tx: jobs.page(tx, states, before, limit))

    async def job_of_machine(self, machine_id: str) -> JobRecord | None:
        return await self._read(lambda tx: jobs.of_machine(tx, machine_id))

    async def move_job(
        self,
        job_id: int,
        to: JobState,
        *,
        reason: str = "",
        gitlab_status: str | None = None,
        failure_reason: str | None = None,
        expect: JobState | Collection[JobState] | None = None,
    ) -> JobRecord:
        """Change a job's state. To `taken` it loses its machine; to `running` its first call is noted; to
        `ended` and `returned` its token and its payload are deleted.

        Raises `IllegalTransition` if the table has no such step, `StaleWrite` if it is not in `expect`.
        """
        changes = {"gitlab_status": gitlab_status, "failure_reason": failure_reason}
        return await self._write(
            lambda tx: jobs.move(tx, job_id, to, reason=reason, changes=changes, expect=expect)
        )

    async def reassign(self, job_id: int, machine_id: str) -> JobRecord:
        """Give an undelivered job to another machine of its pool. `StaleWrite` if that one is not free."""
        return await self._write(lambda tx: jobs.reassign(tx, job_id, machine_id))

    async def deliver(self, job_id: int) -> tuple[JobRecord, MachineRecord]:
        """Job `assigned → delivered` and its machine `waiting → busy`, both or neither."""
        return await self._write(lambda tx: jobs.deliver(tx, job_id))

    async def set_trace_bytes(self, counts: Mapping[int, int]) -> None:
        """How long the logs of these jobs are."""
        await self._write(lambda tx: jobs.set_trace_bytes(tx, counts))

    async def add_trace_bytes(self, job_id: int, count: int) -> None:
        await self._write(lambda tx: jobs.add_trace_bytes(tx, job_id, count))

    async def payload(self, job_id: int) -> bytes | None:
        """GitLab's raw answer, until it is dropped."""
        stored = await self._read(lambda tx: secrets.payload(tx, job_id))
        return None if stored is None else self._keys.decrypt(stored)

    async def job_token(self, job_id: int) -> str | None:
        """The job's token, while the job is open."""
        stored = await self._read(lambda tx: secrets.job_token(tx, job_id))
        return None if stored is None else self._keys.decrypt(stored).decode()

    async def offered(
        self, machine_id: str
    ) -> tuple[MachineRecord | None, JobRecord | None, tuple[bytes, str] | None]:
        """A machine, its job, and GitLab's raw answer with the job's token as long as both are there; at one
        moment."""

        async def all_of_it(
            tx: Transaction,
        ) -> tuple[MachineRecord | None, JobRecord | None, tuple[bytes, bytes] | None]:
            machine, job = await machines.find(tx, machine_id), await jobs.of_machine(tx, machine_id)
            return machine, job, await secrets.deliverable(tx, job.job_id) if job else None

        machine, job, stored = await self._read(all_of_it)
        if stored is None:
            return machine, job, None
        raw, token = stored
        return machine, job, (self._keys.decrypt(raw), self._keys.decrypt(token).decode())

    async def tied(
        self, machine_id: str
    ) -> tuple[MachineRecord | None, JobRecord | None, str | None, bytes | None]:
        """A machine, its job, the job's token, and GitLab's raw answer while it is there; at one moment."""

        async def all_of_it(
            tx: Transaction,
        ) -> tuple[MachineRecord | None, JobRecord | None, bytes | None, bytes | None]:
            machine = await machines.find(tx, machine_id)
            if machine is None or machine.job_id is None:
                return machine, None, None, None
            job = await jobs.find(tx, machine.job_id)
            raw = await secrets.payload(tx, job.job_id) if job is not None and job.has_payload else None
            return machine, job, await secrets.job_token(tx, machine.job_id), raw

        machine, job, token, raw = await self._read(all_of_it)
        return (
            machine,
            job,
            None if token is None else self._keys.decrypt(token).decode(),
            None if raw is None else self._keys.decrypt(raw),
        )

    async def drop_payload(self, job_id: int) -> bool:
        """Delete GitLab's answer, with its CI secrets, before the job's first call or end would."""
        return await self._write(lambda tx: secrets.drop_payload(tx, job_id))

    async def rekey(self) -> int:
        """Re-encrypt every secret with the keyring's first key; how many there were."""
        total = await self._write(lambda tx: sized.rekey(tx, self._keys))
        place: secrets.Place | None = secrets.START
        while place is not None:
            count, place = await self._write(partial(secrets.rekey, keys=self._keys, place=place))
            total += count
        return total

    async def secrets_by_key(self) -> dict[secrets.Standing, int]:
        """How many secrets stand under the first key, under an older one, and under none that we have."""
        return await self._read(lambda tx: secrets.standing(tx, self._keys))
