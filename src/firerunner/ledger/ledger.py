"""The ledger's one face: every read and every write of the database goes through it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Any, Unpack

from firerunner.ledger import (
    holds,
    host_orders,
    jobs,
    journal,
    lease,
    machines,
    pruning,
    secrets,
    signals,
    sized,
)
from firerunner.ledger.access import Access
from firerunner.ledger.keyring import Keyring
from firerunner.ledger.moves import Onlooker
from firerunner.ledger.records import (
    DEFAULT_GITLAB,
    Clock,
    HostOrder,
    HostUse,
    JobRecord,
    JournalEntry,
    Lease,
    MachineFacts,
    MachineRecord,
    NewJob,
    Pruned,
    SizedRunner,
)
from firerunner.ledger.states import LIVE_MACHINES, OPEN_JOBS, JobState, MachineState
from firerunner.ledger.transaction import Transaction
from firerunner.machines.spec import Resources

PRUNE_BATCH = 500
"""Rows per transaction when pruning, so that other writes get their turn."""


class Ledger:
    """A handle on the database. `acting_as` gives one that writes in the leader's name.

    Every write is one transaction, durable when the call returns, and raises `NotLeader` if the handle's
    epoch is over, `StaleWrite` if a row is missing or not as expected, and `LedgerError` if the
    database fails. Reads of a single row give None where there is none.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._read = access.read
        self._write = access.write
        self._keys = access.keys

    @classmethod
    async def open(cls, url: str, keys: Keyring, clock: Clock, *, as_it_is: bool = False) -> Ledger:
        """Open the database at `url` (`sqlite:///PATH`), making it or bringing its tables up to date.

        `as_it_is`: its tables are not touched; for commands beside a service of another version. Raises
        `LedgerError` if it cannot be opened, was written by a newer version, or `as_it_is` by another one.
        """
        return cls(await Access.open(url, keys, clock, as_it_is=as_it_is))

    async def aclose(self) -> None:
        """Finish the writes that have been asked for and close the database, for all handles."""
        await self._access.aclose()

    @property
    def clock(self) -> Clock:
        """By which it writes; a `SteadyClock` goes by a PostgreSQL server's time."""
        return self._access.clock

    def show_to(self, onlooker: Onlooker) -> None:
        """Tell it what this process writes from now on, through whichever handle, and how long all takes."""
        self._access.onlookers.append(onlooker)

    def acting_as(self, epoch: int) -> Ledger:
        """A handle on the same database whose writes are fenced by `epoch`."""
        return Ledger(self._access.acting_as(epoch))

    @property
    def epoch(self) -> int | None:
        """The epoch in which this handle writes; None for an observer, who is not fenced."""
        return self._access.epoch

    # Machines

    async def reserve(
        self,
        machine_id: str,
        pool: str,
        host: str,
        resources: Resources,
        image_digest: str,
        *,
        gitlab: str = DEFAULT_GITLAB,
        asking: bool = False,
    ) -> MachineRecord:
        """A new machine in `reserved`, holding room on `host`; `asking`: its ask is about to leave, as after
        `begin_ask`."""
        return await self._write(
            lambda tx: machines.reserve(
                tx,
                machine_id,
                pool=pool,
                host=host,
                resources=resources,
                image_digest=image_digest,
                gitlab=gitlab,
                asking=asking,
            )
        )

    async def forget_reservation(self, machine_id: str) -> None:
        """Delete a reserved machine whose id GitLab has never seen. `StaleWrite` if it may have."""
        await self._write(lambda tx: machines.forget(tx, machine_id))

    async def machine(self, machine_id: str) -> MachineRecord | None:
        return await self._read(lambda tx: machines.find(tx, machine_id))

    async def machines(self, states: Collection[MachineState] = LIVE_MACHINES) -> list[MachineRecord]:
        """Oldest first."""
        return await self._read(lambda tx: machines.select(tx, states))

    async def machines_page(
        self, states: Collection[MachineState] | None, *, after: str = "", limit: int
    ) -> list[MachineRecord]:
        """By id, those above `after`; of all states if None are given."""
        return await self._read(lambda tx: machines.page(tx, states, after, limit))

    async def move_machine(
        self,
        machine_id: str,
        to: MachineState,
        *,
        reason: str = "",
        expect: MachineState | Collection[MachineState] | None = None,
        **facts: Unpack[MachineFacts],
    ) -> MachineRecord:
        """Change a machine's state, and the facts that came with it. `gone` gives its room back.

        Raises `IllegalTransition` if the table has no such step, `StaleWrite` if it is not in `expect`.
        """
        return await self._write(
            lambda tx: machines.move(tx, machine_id, to, reason=reason, expect=expect, facts=dict(facts))
        )

    async def set_credential(self, machine_id: str, sha256hex: str) -> None:
        await self._write(lambda tx: machines.set_credential(tx, machine_id, sha256hex))

    async def release_room(self, machine_id: str) -> MachineRecord:
        """The machine is gone from its host; its row lives on until its record in GitLab is gone too."""
        return await self._write(lambda tx: machines.release_room(tx, machine_id))

    async def spend_boot(self, machine_id: str) -> int:
        """Count one `booted` of a guest; the result is 1 for the only one that is legal."""
        return await self._write(lambda tx: machines.spend_boot(tx, machine_id))

    async def note_ended(self, machine_id: str, exit_code: int | None) -> MachineRecord:
        """The guest said `ended`; only the first time counts."""
        return await self._write(lambda tx: machines.note_ended(tx, machine_id, exit_code))

    async def hold(self, machine_id: str, seconds: float, limit: int) -> float | None:
        """Keep a machine whose job has failed for so long, unless `limit` of its pool are kept; until when
        (Unix seconds), or None. A second call changes nothing."""
        return await self._write(lambda tx: holds.hold(tx, machine_id, seconds, limit))

    async def release_hold(self, machine_id: str) -> None:
        """End its hold now. `StaleWrite` if it is not held."""
        await self._write(lambda tx: holds.release(tx, machine_id))

    async def manager_removed(self, machine_id: str) -> None:
        """GitLab has no runner manager record of this machine any more."""
        await self._write(lambda tx: machines.manager_removed(tx, machine_id))

    # Asks

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

    # Jobs

    async def take(self, machine_id: str, job: NewJob) -> JobRecord:
        """Write a job down and give it to its machine, whose ask is over; the answer becomes its payload.

        The job stays `taken`, without a machine, if the machine cannot take it any more. A second call
        with the same machine changes nothing; with another one it raises `StaleWrite`.
        """
        return await self._write(lambda tx: jobs.take(tx, machine_id, job, self._keys))

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

    async def set_trace_bytes(self, job_id: int, count: int) -> None:
        await self._write(lambda tx: jobs.set_trace_bytes(tx, job_id, count))

    async def add_trace_bytes(self, job_id: int, count: int) -> None:
        await self._write(lambda tx: jobs.add_trace_bytes(tx, job_id, count))

    # Secrets of jobs

    async def payload(self, job_id: int) -> bytes | None:
        """GitLab's raw answer, until it is dropped."""
        stored = await self._read(lambda tx: secrets.payload(tx, job_id))
        return None if stored is None else self._keys.decrypt(stored)

    async def job_token(self, job_id: int) -> str | None:
        """The job's token, while the job is open."""
        stored = await self._read(lambda tx: secrets.job_token(tx, job_id))
        return None if stored is None else self._keys.decrypt(stored).decode()

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

    # Runners of sized tags

    async def sized_runners(self) -> list[SizedRunner]:
        """Oldest first, with their tokens in clear."""
        return await self._read(lambda tx: sized.select(tx, self._keys))

    async def add_sized_runner(
        self,
        *,
        pool: str,
        gitlab: str,
        template: str,
        tag: str,
        project_id: int | None,
        vcpu: int,
        memory_mib: int,
        runner_id: int,
        token: str,
    ) -> SizedRunner:
        """Write a runner down that was made in GitLab. `StaleWrite` if its pool has one."""
        now = self._access.clock()
        runner = SizedRunner(
            pool=pool,
            gitlab=gitlab,
            template=template,
            tag=tag,
            project_id=project_id,
            vcpu=vcpu,
            memory_mib=memory_mib,
            runner_id=runner_id,
            token=token,
            created_at=now,
            used_at=now,
        )
        return await self._write(lambda tx: sized.add(tx, runner, self._keys))

    async def touch_sized_runner(self, pool: str) -> None:
        """It has a job, or was asked for."""
        await self._write(lambda tx: sized.touch(tx, pool))

    async def begin_remove_sized_runner(self, pool: str, *, reason: str) -> None:
        """From now on it takes no more jobs."""
        await self._write(lambda tx: sized.begin_remove(tx, pool, reason))

    async def remove_sized_runner(self, pool: str) -> None:
        """It is gone from GitLab."""
        await self._write(lambda tx: sized.remove(tx, pool))

    # Hosts

    async def host_orders(self) -> dict[str, HostOrder]:
        """What operators have said, by the host's name; of most hosts nothing."""
        return await self._read(host_orders.select)

    async def use_host(self, host: str, use: HostUse, reason: str = "") -> None:
        """An operator says whether machines are made there."""
        await self._write(lambda tx: host_orders.use(tx, host, use, reason))

    async def believe_host(self, host: str) -> None:
        """An operator says that what the host shows now is true, however many machines it lacks."""
        await self._write(lambda tx: host_orders.believe(tx, host))

    # Journal

    async def note(
        self, subject_kind: str, subject: str, event: str, detail: Mapping[str, Any] | None = None
    ) -> int:
        """Write down something that changed no state. `detail` must be JSON without secrets."""
        return await self._write(lambda tx: journal.write(tx, subject_kind, subject, event, detail=detail))

    async def journal(
        self, after: int = 0, subject: str | None = None, limit: int = 200
    ) -> list[JournalEntry]:
        """Rows with a number above `after`, in order."""
        return await self._read(lambda tx: journal.read(tx, after, subject, limit))

    async def last_journal(self, subject: str | None = None, limit: int = 200) -> list[JournalEntry]:
        """The newest rows, in order."""
        return await self._read(lambda tx: journal.read_last(tx, subject, limit))

    async def last_journal_of(self, subject: str, event: str, limit: int = 1) -> list[JournalEntry]:
        """The newest rows of this event, in order, however many others there are of the subject."""
        return await self._read(lambda tx: journal.read_last_of(tx, subject, event, limit))

    async def intend(
        self,
        action: str,
        subject: str,
        detail: Mapping[str, Any] | None = None,
        *,
        subject_kind: str = "machine",
    ) -> int:
        """Before a side effect outside: its number, for `done`."""
        return await self._write(lambda tx: journal.intend(tx, subject_kind, subject, action, detail or {}))

    async def begin_launch(self, machine_id: str, credential_hash: str) -> tuple[MachineRecord, int]:
        """Machine `reserved → creating` with its room, and its `create` intended: both or neither.

        The number is for `done`. `StaleWrite` if the machine is not reserved any more.
        """
        facts: MachineFacts = {"credential_hash": credential_hash, "room_held": True}

        async def both(tx: Transaction) -> tuple[MachineRecord, int]:
            expected = MachineState.RESERVED
            machine = await machines.move(
                tx, machine_id, MachineState.CREATING, reason="", expect=expected, facts=dict(facts)
            )
            return machine, await journal.intend(tx, "machine", machine_id, "create", {"host": machine.host})

        return await self._write(both)

    async def done(self, seq: int, outcome: str | Mapping[str, Any] = "ok") -> None:
        """After a side effect, however it went. `StaleWrite` if it was done before."""
        told = {"outcome": outcome} if isinstance(outcome, str) else outcome
        await self._write(lambda tx: journal.done(tx, seq, told))

    async def unfinished(self) -> list[JournalEntry]:
        """Side effects that were intended and are not done; `event` names the action."""
        return await self._read(journal.unfinished)

    # Leadership and upkeep

    async def lease(self) -> Lease | None:
        """Who leads now; None before the first leader."""
        return await self._access.timed(self._read, lease.read)

    async def lead(self, holder: str, *, silent: Lease | None = None, force: bool = False) -> int:
        """Become leader, or stay it with one more beat; the epoch. Raises `NotLeader` if another is.

        `holder` names one run of one process. `silent`: a lease whose heart has stood still for so long that
        it may be taken. `force` takes over whatever it says: only for who knows that the holder is dead.
        """
        return await self._access.timed(
            self._write, lambda tx: lease.lead(tx, holder, silent=silent, force=force)
        )

    async def resign(self, holder: str) -> None:
        """Let another lead at once. Does nothing if `holder` does not lead."""
        await self._write(lambda tx: lease.resign(tx, holder))

    async def send_signal(self, kind: str, body: Mapping[str, Any]) -> None:
        """For the leader, from a controller that does not lead. `body` must be JSON without secrets."""
        await self._write(lambda tx: signals.send(tx, kind, body))

    async def receive_signals(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and body of the oldest signals, in order; they are gone then."""
        if not await self._read(signals.waiting):
            return []
        return await self._write(signals.receive)

    async def prune(self, before: float) -> Pruned:
        """Remove journal rows, ended jobs and gone machines from before then, batch by batch."""
        return Pruned(
            jobs=await self._in_batches(pruning.prune_jobs, before),
            machines=await self._in_batches(pruning.prune_machines, before),
            journal=await self._in_batches(pruning.prune_journal, before),
        )

    async def _in_batches(
        self, prune: Callable[[Transaction, float, int], Awaitable[int]], before: float
    ) -> int:
        total, count = 0, PRUNE_BATCH
        while count >= PRUNE_BATCH:
            count = await self._write(lambda tx: prune(tx, before, PRUNE_BATCH))
            total += count
        return total
