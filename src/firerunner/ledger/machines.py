"""Queries and transitions of machines."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from firerunner.errors import StaleWrite
from firerunner.ledger import journal, transitions
from firerunner.ledger.moves import MachineMove
from firerunner.ledger.records import DIGESTS, MachineRecord
from firerunner.ledger.schema import answers, jobs, machines
from firerunner.ledger.states import COMING_MACHINES, MACHINE_TRANSITIONS, MachineState
from firerunner.ledger.transaction import Transaction
from firerunner.machines.spec import Resources

_SELECT = sa.select(machines, jobs.c.job_id, jobs.c.project_path).outerjoin(
    jobs, jobs.c.machine_id == machines.c.machine_id
)

# Made once: to make a statement takes longer than to run it.
_FIND = _SELECT.where(machines.c.machine_id == sa.bindparam("wanted"))
_LOCK = _FIND.with_for_update(of=machines)
_INSERT = sa.insert(machines)
_UPDATE = sa.update(machines).where(machines.c.machine_id == sa.bindparam("wanted"))
_ANSWER = sa.select(answers.c.seq).where(answers.c.machine_id == sa.bindparam("machine")).limit(1)


async def find(tx: Transaction, machine_id: str, *, lock: bool = False) -> MachineRecord | None:
    found = await tx.connection.execute(_LOCK if lock else _FIND, {"wanted": machine_id})
    row = found.one_or_none()
    return None if row is None else _record(row)


async def get(tx: Transaction, machine_id: str) -> MachineRecord:
    """For a write: raises `StaleWrite` if there is no such machine (any more)."""
    record = await find(tx, machine_id, lock=True)
    if record is None:
        raise StaleWrite(f"the ledger has no machine {machine_id}", remedy="it was forgotten or pruned")
    return record


async def select(tx: Transaction, states: Collection[MachineState]) -> list[MachineRecord]:
    query = _SELECT.where(machines.c.state.in_(sorted(states))).order_by(
        machines.c.created_at, machines.c.machine_id
    )
    return [_record(row) for row in await tx.connection.execute(query)]


async def page(
    tx: Transaction, states: Collection[MachineState] | None, after: str, limit: int
) -> list[MachineRecord]:
    """In the order of the primary key, so that a page costs a page however many there are."""
    query = _SELECT.where(machines.c.machine_id > after).order_by(machines.c.machine_id).limit(limit)
    if states is not None:
        query = query.where(machines.c.state.in_(sorted(states)))
    return [_record(row) for row in await tx.connection.execute(query)]


async def asking(tx: Transaction) -> list[MachineRecord]:
    query = _SELECT.where(machines.c.ask_started_at.is_not(None)).order_by(machines.c.ask_started_at)
    return [_record(row) for row in await tx.connection.execute(query)]


async def reserve(
    tx: Transaction,
    machine_id: str,
    *,
    pool: str,
    host: str,
    resources: Resources,
    image_digest: str,
    gitlab: str,
    asking: bool,
) -> MachineRecord:
    record = MachineRecord(
        machine_id=machine_id,
        pool=pool,
        host=host,
        state=MachineState.RESERVED,
        state_since=tx.at,
        resources=resources,
        image_digest=image_digest,
        created_at=tx.at,
        gitlab=gitlab,
        ask_started_at=tx.at if asking else None,
        manager_known=asking,
    )
    if await find(tx, machine_id) is not None:
        raise StaleWrite(f"the machine id {machine_id} is in use", remedy="make another one")
    await tx.connection.execute(
        _INSERT,
        {
            "machine_id": machine_id,
            "pool": pool,
            "host": host,
            "state": record.state,
            "state_since": tx.at,
            "vcpu": resources.vcpu,
            "memory_mib": resources.memory_mib,
            "disk_mib": resources.disk_mib,
            "image_digest": image_digest,
            "created_at": tx.at,
            "boots": 0,
            "room_held": True,
            "manager_known": record.manager_known,
            "ask_started_at": record.ask_started_at,
            "reason": "",
            "gitlab": gitlab,
        },
    )
    await journal.write(
        tx,
        "machine",
        machine_id,
        "reserved",
        to_state=MachineState.RESERVED,
        detail={"pool": pool, "host": host, "image": image_digest} | ({"asking": True} if asking else {}),
    )
    tx.moves.append(MachineMove(record))
    return record


async def move(
    tx: Transaction,
    machine_id: str,
    to: MachineState,
    *,
    reason: str,
    expect: MachineState | Collection[MachineState] | None,
    facts: Mapping[str, Any],
) -> MachineRecord:
    return await _moved(tx, await get(tx, machine_id), to, reason=reason, expect=expect, facts=facts)


async def _moved(
    tx: Transaction,
    old: MachineRecord,
    to: MachineState,
    *,
    reason: str,
    expect: MachineState | Collection[MachineState] | None,
    facts: Mapping[str, Any],
) -> MachineRecord:
    machine_id = old.machine_id
    transitions.check(f"machine {machine_id}", old.state, to, MACHINE_TRANSITIONS, expect)
    values: dict[str, Any] = {"state": to, "state_since": tx.at, "reason": reason, **facts}
    if to is MachineState.GONE:
        values |= {"room_held": False, "ask_started_at": None}
    await _update(tx, machine_id, values)
    await journal.write(
        tx,
        "machine",
        machine_id,
        "moved",
        from_state=old.state,
        to_state=to,
        detail=({"reason": reason} if reason else {})
        | {name: value for name, value in facts.items() if name not in DIGESTS},
    )
    new = replace(old, **values)
    tx.moves.append(MachineMove(new, old.state, tx.at - old.state_since))
    return new


async def begin_ask(
    tx: Transaction,
    machine_id: str,
    *,
    host: str | None,
    resources: Resources | None,
    image_digest: str | None,
    gitlab: str | None,
) -> MachineRecord:
    old = await get(tx, machine_id)
    if gitlab is not None and gitlab != old.gitlab:
        raise StaleWrite(f"machine {machine_id} is of gitlab {old.gitlab}, not of {gitlab}")
    if old.state not in {MachineState.RESERVED, MachineState.WAITING} or old.job_id is not None:
        raise StaleWrite(f"machine {machine_id} ({old.state}, job {old.job_id}) cannot be asked for")
    if old.ask_started_at is not None:
        raise StaleWrite(f"an ask for machine {machine_id} is in flight already")
    values: dict[str, Any] = {"ask_started_at": tx.at, "manager_known": True, "room_held": True}
    new = replace(old, **values)
    if old.state is MachineState.RESERVED:  # nothing of it exists yet: it may still be another one
        new = replace(
            new,
            host=host or old.host,
            resources=resources or old.resources,
            image_digest=image_digest or old.image_digest,
        )
        values |= {
            "host": new.host,
            "image_digest": new.image_digest,
            "vcpu": new.resources.vcpu,
            "memory_mib": new.resources.memory_mib,
            "disk_mib": new.resources.disk_mib,
        }
    await _update(tx, machine_id, values)
    return new


async def end_ask(tx: Transaction, machine_id: str, outcome: str) -> MachineRecord:
    old = await get(tx, machine_id)
    is_real = old.state is not MachineState.RESERVED or old.job_id is not None
    held = old.room_held and (is_real or await _has_answer(tx, machine_id))
    await _update(tx, machine_id, {"ask_started_at": None, "room_held": held})
    if outcome:
        await journal.write(
            tx,
            "machine",
            machine_id,
            "ask ended",
            detail={"outcome": outcome, "started_at": old.ask_started_at, "pool": old.pool},
        )
    return replace(old, ask_started_at=None, room_held=held)


async def forget(tx: Transaction, machine_id: str) -> None:
    record = await get(tx, machine_id)
    unknown_outside = not record.manager_known and record.job_id is None and record.boots == 0
    if record.state is not MachineState.RESERVED or not unknown_outside or await _has_answer(tx, machine_id):
        raise StaleWrite(
            f"machine {machine_id} ({record.state}) may be known outside the ledger",
            remedy="retire it instead, so that its records in GitLab are removed",
        )
    await tx.connection.execute(sa.delete(machines).where(machines.c.machine_id == machine_id))
    await journal.write(tx, "machine", machine_id, "forgotten", from_state=MachineState.RESERVED)


async def set_credential(tx: Transaction, machine_id: str, sha256hex: str) -> None:
    await get(tx, machine_id)
    await _update(tx, machine_id, {"credential_hash": sha256hex})
    await journal.write(tx, "machine", machine_id, "credential set")


async def release_room(tx: Transaction, machine_id: str) -> MachineRecord:
    """Nothing of it is left on its host; only its record in GitLab may be."""
    await get(tx, machine_id)
    await _update(tx, machine_id, {"room_held": False, "vmm_started_at": None})
    await journal.write(tx, "machine", machine_id, "room released")
    return await get(tx, machine_id)


async def boot(tx: Transaction, machine_id: str) -> MachineRecord:
    old = await get(tx, machine_id)
    if old.boots:
        raise StaleWrite(f"machine {machine_id} has booted before")
    facts = {"boots": 1, "booted_at": tx.at}
    return await _moved(tx, old, MachineState.WAITING, reason="", expect=COMING_MACHINES, facts=facts)


async def note_ended(tx: Transaction, machine_id: str, exit_code: int | None) -> MachineRecord:
    old = await get(tx, machine_id)
    if old.ended_reported_at is not None:
        return old
    await _update(tx, machine_id, {"ended_reported_at": tx.at, "exit_code": exit_code})
    await journal.write(tx, "machine", machine_id, "guest ended", detail={"exit_code": exit_code})
    return replace(old, ended_reported_at=tx.at, exit_code=exit_code)


async def hold_room(tx: Transaction, machine_id: str) -> None:
    await _update(tx, machine_id, {"room_held": True})


async def ask_is_over(tx: Transaction, machine_id: str, *, holds_room: bool) -> None:
    """`holds_room`: it has got a job, for which it needs its room; else its room stays as it is."""
    await _update(tx, machine_id, {"ask_started_at": None} | ({"room_held": True} if holds_room else {}))


async def manager_removed(tx: Transaction, machine_id: str) -> None:
    await get(tx, machine_id)
    await _update(tx, machine_id, {"manager_known": False})
    await journal.write(tx, "machine", machine_id, "manager removed")


async def _update(tx: Transaction, machine_id: str, values: Mapping[str, Any]) -> None:
    await tx.connection.execute(_UPDATE, {"wanted": machine_id, **values})


async def _has_answer(tx: Transaction, machine_id: str) -> bool:
    return (await tx.connection.execute(_ANSWER, {"machine": machine_id})).first() is not None


def _record(row: Any) -> MachineRecord:
    return MachineRecord(
        machine_id=row.machine_id,
        pool=row.pool,
        host=row.host,
        state=MachineState(row.state),
        state_since=row.state_since,
        resources=Resources(row.vcpu, row.memory_mib, row.disk_mib),
        image_digest=row.image_digest,
        created_at=row.created_at,
        credential_hash=row.credential_hash,
        boots=row.boots,
        ask_started_at=row.ask_started_at,
        room_held=row.room_held,
        manager_known=row.manager_known,
        vmm_started_at=row.vmm_started_at,
        booted_at=row.booted_at,
        ended_reported_at=row.ended_reported_at,
        exit_code=row.exit_code,
        job_id=row.job_id,
        reason=row.reason,
        gitlab=row.gitlab,
        project_path=row.project_path,
        held_until=row.held_until,
        baked=row.baked,
    )
