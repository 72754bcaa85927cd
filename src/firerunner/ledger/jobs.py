"""Queries and transitions of jobs, and their bond with a machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from firerunner.errors import IllegalTransition, StaleWrite
from firerunner.ledger import journal, machines, secrets, transitions
from firerunner.ledger.keyring import Keyring
from firerunner.ledger.moves import JobMove
from firerunner.ledger.records import JobRecord, MachineRecord, NewJob
from firerunner.ledger.schema import answers, jobs
from firerunner.ledger.schema import machines as machine_rows
from firerunner.ledger.states import JOB_TRANSITIONS, OPEN_JOBS, JobState, MachineState
from firerunner.ledger.transaction import Transaction

_COLUMNS = [column for column in jobs.c if column is not jobs.c.token]
_SELECT = (
    sa.select(*_COLUMNS, answers.c.seq.is_not(None).label("has_payload"), machine_rows.c.host)
    .outerjoin(answers, answers.c.job_id == jobs.c.job_id)
    .outerjoin(machine_rows, machine_rows.c.machine_id == jobs.c.machine_id)
)

# Made once: to make a statement takes longer than to run it.
_FIND = _SELECT.where(jobs.c.job_id == sa.bindparam("wanted"))
_LOCK = _FIND.with_for_update(of=jobs)
_OF_MACHINE = _SELECT.where(jobs.c.machine_id == sa.bindparam("machine"))
_OF_NUMBER = _SELECT.where(
    sa.or_(
        sa.and_(jobs.c.gitlab == sa.bindparam("of"), jobs.c.gitlab_job_id == sa.bindparam("number")),
        jobs.c.job_id == sa.bindparam("number"),
    )
).with_for_update(of=jobs)
_CLAIM = (
    sa.update(answers)
    .where(
        answers.c.seq
        == sa.select(sa.func.min(answers.c.seq))
        .where(answers.c.machine_id == sa.bindparam("machine"), answers.c.job_id.is_(None))
        .scalar_subquery()
    )
    .values(job_id=sa.bindparam("job"))
)
_FORGET = sa.delete(answers).where(answers.c.job_id == sa.bindparam("job"))
_UPDATE = sa.update(jobs).where(jobs.c.job_id == sa.bindparam("wanted"))
_INSERT = sa.insert(jobs)

_ABLE = frozenset({MachineState.RESERVED, MachineState.CREATING, MachineState.BOOTING, MachineState.WAITING})
"""The states in which a machine without a job can still get one."""

_WITH_MACHINE = frozenset({JobState.TAKEN, JobState.RUNNING})
"""Whoever is told of a move to these states is told of the machine too."""

OWN_NUMBERS = 1 << 62
"""Numbers from here on are the ledger's own. GitLab's ids are far below."""


async def find(tx: Transaction, job_id: int, *, lock: bool = False) -> JobRecord | None:
    row = (await tx.connection.execute(_LOCK if lock else _FIND, {"wanted": job_id})).one_or_none()
    return None if row is None else _record(row)


async def knows(tx: Transaction, gitlab: str, number: int) -> bool:
    found = await tx.connection.execute(
        sa.select(jobs.c.job_id).where(jobs.c.gitlab == gitlab, jobs.c.gitlab_job_id == number)
    )
    return found.first() is not None


async def of_machine(tx: Transaction, machine_id: str) -> JobRecord | None:
    row = (await tx.connection.execute(_OF_MACHINE, {"machine": machine_id})).one_or_none()
    return None if row is None else _record(row)


async def get(tx: Transaction, job_id: int) -> JobRecord:
    """For a write: raises `StaleWrite` if there is no such job (any more)."""
    record = await find(tx, job_id, lock=True)
    if record is None:
        raise StaleWrite(f"the ledger has no job {job_id}", remedy="it was never taken, or was pruned")
    return record


async def select(tx: Transaction, states: Collection[JobState]) -> list[JobRecord]:
    query = _SELECT.where(jobs.c.state.in_(sorted(states))).order_by(jobs.c.taken_at, jobs.c.job_id)
    return [_record(row) for row in await tx.connection.execute(query)]


async def page(
    tx: Transaction, states: Collection[JobState] | None, before: int | None, limit: int
) -> list[JobRecord]:
    """In the order of the primary key, so that a page costs a page however many there are."""
    query = _SELECT.order_by(jobs.c.job_id.desc()).limit(limit)
    if states is not None:
        query = query.where(jobs.c.state.in_(sorted(states)))
    if before is not None:
        query = query.where(jobs.c.job_id < before)
    return [_record(row) for row in await tx.connection.execute(query)]


async def take(
    tx: Transaction, machine_id: str, job: NewJob, keys: Keyring, answer: bytes | None = None
) -> JobRecord:
    machine = await machines.get(tx, machine_id)
    known, is_number_free = await _known(tx, machine.gitlab, job.job_id)
    if known is not None:
        return await _taken_before(tx, machine, known)
    job_id = job.job_id if is_number_free else await _own_number(tx)
    taken = JobRecord(
        job_id=job_id,
        gitlab=machine.gitlab,
        gitlab_job_id=job.job_id,
        pool=machine.pool,
        machine_id=None,
        state=JobState.TAKEN,
        state_since=tx.at,
        name=job.name,
        project_id=job.project_id,
        project_path=job.project_path,
        timeout_s=job.timeout_s,
        taken_at=tx.at,
    )
    # The machine may have died while the ask was in flight; then the job waits for another one.
    is_free = _is_free(machine)
    record = replace(taken, **_assigned(tx, taken, machine), host=machine.host) if is_free else taken
    await tx.connection.execute(
        _INSERT,
        {
            "job_id": job_id,
            "gitlab": machine.gitlab,
            "gitlab_job_id": job.job_id,
            "pool": machine.pool,
            "machine_id": record.machine_id,
            "state": record.state,
            "state_since": tx.at,
            "name": job.name,
            "project_id": job.project_id,
            "project_path": job.project_path,
            "timeout_s": job.timeout_s,
            "taken_at": tx.at,
            "attempts": record.attempts,
            "trace_bytes": 0,
            "reason": "",
            "token": keys.encrypt(job.job_token.encode()),
        },
    )
    await machines.ask_is_over(tx, machine_id, holds_room=is_free)
    told = await secrets.store(tx, machine, answer, keys, job_id=job_id) if answer is not None else None
    has_payload = told is not None or await _claim_answer(tx, machine_id, job_id)
    detail = {
        "machine": machine_id,
        "pool": machine.pool,
        "project": job.project_path,
        "name": job.name,
        "asked_at": machine.ask_started_at,
    }
    rows = [journal.row(tx, "job", str(job_id), "taken", to_state=JobState.TAKEN, detail=detail)]
    tx.moves.append(JobMove(replace(taken, has_payload=has_payload), machine=machine))
    if is_free:
        rows.append(_move_row(tx, taken, JobState.ASSIGNED, {"machine": machine_id}))
        tx.moves.append(JobMove(replace(record, has_payload=has_payload), taken.state, 0.0, machine))
    await journal.write_all(tx, [*([told] if told else []), *rows])
    return replace(record, has_payload=has_payload)


async def _known(tx: Transaction, gitlab: str, number: int) -> tuple[JobRecord | None, bool]:
    """That GitLab's job of this number, and whether the number is free: another GitLab's may have it."""
    found = await tx.connection.execute(_OF_NUMBER, {"of": gitlab, "number": number})
    records = [_record(row) for row in found]
    same = (each for each in records if (each.gitlab, each.gitlab_job_id) == (gitlab, number))
    return next(same, None), all(each.job_id != number for each in records)


async def _own_number(tx: Transaction) -> int:
    """The next one that no GitLab uses."""
    highest = sa.select(sa.func.max(jobs.c.job_id))
    return max(int((await tx.connection.execute(highest)).scalar_one()) + 1, OWN_NUMBERS)


async def reassign(tx: Transaction, job_id: int, machine_id: str) -> JobRecord:
    job = await get(tx, job_id)
    machine = await machines.get(tx, machine_id)
    if job.machine_id == machine_id and job.state is JobState.ASSIGNED:
        return job
    if not _is_free(machine):
        raise StaleWrite(
            f"machine {machine_id} ({machine.state}, job {machine.job_id}) cannot take job {job_id}"
        )
    if machine.pool != job.pool:
        raise StaleWrite(f"machine {machine_id} is of pool {machine.pool}, job {job_id} of pool {job.pool}")
    if job.state is not JobState.TAKEN:
        job = await _moved(
            tx, job, JobState.TAKEN, reason=f"machine {job.machine_id} is lost", changes={}, expect=None
        )
    return await _assign(tx, job, machine)


async def move(
    tx: Transaction,
    job_id: int,
    to: JobState,
    *,
    reason: str,
    changes: Mapping[str, str | None],
    expect: JobState | Collection[JobState] | None,
) -> JobRecord:
    return await _moved(tx, await get(tx, job_id), to, reason=reason, changes=changes, expect=expect)


async def _moved(
    tx: Transaction,
    old: JobRecord,
    to: JobState,
    *,
    reason: str,
    changes: Mapping[str, str | None],
    expect: JobState | Collection[JobState] | None,
) -> JobRecord:
    job_id = old.job_id
    transitions.check(f"job {job_id}", old.state, to, JOB_TRANSITIONS, expect)
    if to is JobState.ASSIGNED:
        raise IllegalTransition(f"job {job_id} is assigned by naming its machine", remedy="use reassign")
    values: dict[str, Any] = {"state": to, "state_since": tx.at, "reason": reason}
    values |= {name: value for name, value in changes.items() if value is not None}
    if to is JobState.TAKEN:
        values["machine_id"] = None
    if to is JobState.RUNNING:
        values["first_call_at"] = tx.at
    is_over = to not in OPEN_JOBS
    await _update(tx, job_id, values | ({"token": None} if is_over else {}))
    if is_over or to is JobState.RUNNING:  # GitLab's answer is not needed after the first call
        await tx.connection.execute(_FORGET, {"job": job_id})
        values["has_payload"] = False
    await _journal_move(tx, old, to, {"reason": reason, **changes, "machine": old.machine_id})
    if to is JobState.TAKEN:
        values["host"] = None
    new = replace(old, **values)
    machine = await machines.find(tx, old.machine_id) if to in _WITH_MACHINE and old.machine_id else None
    tx.moves.append(JobMove(new, old.state, tx.at - old.state_since, machine))
    return new


async def deliver(tx: Transaction, job_id: int) -> tuple[JobRecord, MachineRecord]:
    job = await get(tx, job_id)
    if job.machine_id is None:
        raise StaleWrite(f"job {job_id} has no machine")
    machine = await machines.move(
        tx, job.machine_id, MachineState.BUSY, reason="", expect=MachineState.WAITING, facts={}
    )
    moved = await _moved(tx, job, JobState.DELIVERED, reason="", changes={}, expect=JobState.ASSIGNED)
    return moved, machine


async def set_trace_bytes(tx: Transaction, counts: Mapping[int, int]) -> None:
    rows = [{"wanted": job_id, "trace_bytes": count} for job_id, count in sorted(counts.items())]
    await tx.connection.execute(_UPDATE, rows)


async def add_trace_bytes(tx: Transaction, job_id: int, count: int) -> None:
    added = sa.update(jobs).where(jobs.c.job_id == job_id).values(trace_bytes=jobs.c.trace_bytes + count)
    await tx.connection.execute(added)


async def _taken_before(tx: Transaction, machine: MachineRecord, known: JobRecord) -> JobRecord:
    """The same answer read a second time, after a crash or by a confused GitLab."""
    if known.machine_id != machine.machine_id:
        raise StaleWrite(
            f"job {known.job_id} ({known.state}) has been taken before, for machine {known.machine_id}, "
            f"and GitLab handed it to machine {machine.machine_id} again",
            remedy="discard the second answer",
        )
    return known


def _is_free(machine: MachineRecord) -> bool:
    return machine.job_id is None and machine.state in _ABLE


async def _assign(tx: Transaction, job: JobRecord, machine: MachineRecord) -> JobRecord:
    values = _assigned(tx, job, machine)
    await _update(tx, job.job_id, values)
    if not machine.room_held:
        await machines.hold_room(tx, machine.machine_id)
    await _journal_move(tx, job, JobState.ASSIGNED, {"machine": machine.machine_id})
    new = replace(job, **values, host=machine.host)
    tx.moves.append(JobMove(new, job.state, tx.at - job.state_since, machine))
    return new


def _assigned(tx: Transaction, job: JobRecord, machine: MachineRecord) -> dict[str, Any]:
    """What changes in the job's row when the machine gets it."""
    transitions.check(f"job {job.job_id}", job.state, JobState.ASSIGNED, JOB_TRANSITIONS)
    return {
        "state": JobState.ASSIGNED,
        "state_since": tx.at,
        "reason": "",
        "machine_id": machine.machine_id,
        "attempts": job.attempts + 1,
    }


async def _claim_answer(tx: Transaction, machine_id: str, job_id: int) -> bool:
    claimed = await tx.connection.execute(_CLAIM, {"machine": machine_id, "job": job_id})
    return claimed.rowcount > 0


async def _journal_move(tx: Transaction, old: JobRecord, to: JobState, detail: Mapping[str, Any]) -> None:
    await journal.write_all(tx, [_move_row(tx, old, to, detail)])


def _move_row(tx: Transaction, old: JobRecord, to: JobState, detail: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in detail.items() if value not in {None, ""}}
    return journal.row(tx, "job", str(old.job_id), "moved", from_state=old.state, to_state=to, detail=told)


async def _update(tx: Transaction, job_id: int, values: Mapping[str, Any]) -> None:
    await tx.connection.execute(_UPDATE, {"wanted": job_id, **values})


def _record(row: Any) -> JobRecord:
    return JobRecord(
        job_id=row.job_id,
        gitlab=row.gitlab,
        gitlab_job_id=row.gitlab_job_id,
        pool=row.pool,
        machine_id=row.machine_id,
        state=JobState(row.state),
        state_since=row.state_since,
        name=row.name,
        project_id=row.project_id,
        project_path=row.project_path,
        timeout_s=row.timeout_s,
        taken_at=row.taken_at,
        gitlab_status=row.gitlab_status,
        failure_reason=row.failure_reason,
        first_call_at=row.first_call_at,
        attempts=row.attempts,
        trace_bytes=row.trace_bytes,
        has_payload=bool(row.has_payload),
        reason=row.reason,
        host=row.host,
    )
