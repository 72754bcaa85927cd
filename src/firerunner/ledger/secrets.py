"""Raw answers and job tokens at rest: always encrypted, kept no longer than they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from firerunner.errors import KeyMissing, StaleWrite
from firerunner.ledger import journal, machines
from firerunner.ledger.keyring import Keyring
from firerunner.ledger.records import MachineRecord
from firerunner.ledger.schema import answers, jobs, sized_runners
from firerunner.ledger.transaction import Transaction

REKEY_BATCH: Final = 100
"""Tokens, and answers, re-encrypted per transaction."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far re-encryption has come: the last job and the last answer that were done."""

    job_id: int
    answer: int


class Standing(StrEnum):
    """How a secret can be read."""

    FIRST = "first"  # with the key that writes.
    OLDER = "older"  # with another key of the file.
    UNREADABLE = "unreadable"  # not at all.


START: Final = Place(job_id=0, answer=0)

# Made once: to make a statement takes longer than to run it.
_KEPT = sa.select(answers.c.raw).where(answers.c.machine_id == sa.bindparam("machine"))
_KEEP = sa.insert(answers)
_PAYLOAD = sa.select(answers.c.raw).where(answers.c.job_id == sa.bindparam("job"))
_TOKEN = sa.select(jobs.c.token).where(jobs.c.job_id == sa.bindparam("job"))
_DELIVERABLE = (
    sa.select(answers.c.raw, jobs.c.token)
    .join(jobs, jobs.c.job_id == answers.c.job_id)
    .where(answers.c.job_id == sa.bindparam("job"), jobs.c.token.is_not(None))
)


async def keep_answer(tx: Transaction, machine_id: str, answer: bytes, keys: Keyring) -> None:
    """For whoever reads it: no job has been made of it."""
    if told := await store(tx, await machines.get(tx, machine_id), answer, keys, job_id=None):
        await journal.write_all(tx, [told])


async def store(
    tx: Transaction, machine: MachineRecord, answer: bytes, keys: Keyring, *, job_id: int | None
) -> dict[str, Any] | None:
    """Encrypted in the transaction, not before: a rotation of keys that comes in between finds it there.

    The journal's row that is to be written about it; None if it is there already.
    """
    kept = await tx.connection.execute(_KEPT, {"machine": machine.machine_id})
    if any(keys.decrypt(raw) == answer for raw in kept.scalars()):
        return None  # the commit of the first try had been made, and its answer was lost
    encrypted = keys.encrypt(answer)
    await tx.connection.execute(
        _KEEP, {"machine_id": machine.machine_id, "kept_at": tx.at, "raw": encrypted, "job_id": job_id}
    )
    detail = {"stored_bytes": len(encrypted), "asked_at": machine.ask_started_at}
    return journal.row(tx, "machine", machine.machine_id, "answer kept", detail=detail)


async def unread(tx: Transaction) -> list[tuple[str, bytes]]:
    query = (
        sa.select(answers.c.machine_id, answers.c.raw)
        .where(answers.c.job_id.is_(None))
        .order_by(answers.c.seq)
    )
    return [(row.machine_id, row.raw) for row in await tx.connection.execute(query)]


async def discard_answer(tx: Transaction, machine_id: str, reason: str) -> None:
    removed = await tx.connection.execute(
        sa.delete(answers).where(answers.c.machine_id == machine_id, answers.c.job_id.is_(None))
    )
    if removed.rowcount == 0:
        raise StaleWrite(f"machine {machine_id} has no unread answer")
    await journal.write(tx, "machine", machine_id, "answer discarded", detail={"reason": reason})


async def payload(tx: Transaction, job_id: int) -> bytes | None:
    return (await tx.connection.execute(_PAYLOAD, {"job": job_id})).scalar_one_or_none()


async def job_token(tx: Transaction, job_id: int) -> bytes | None:
    return (await tx.connection.execute(_TOKEN, {"job": job_id})).scalar_one_or_none()


async def deliverable(tx: Transaction, job_id: int) -> tuple[bytes, bytes] | None:
    row = (await tx.connection.execute(_DELIVERABLE, {"job": job_id})).one_or_none()
    return None if row is None else (row.raw, row.token)


async def drop_payload(tx: Transaction, job_id: int) -> bool:
    removed = await tx.connection.execute(sa.delete(answers).where(answers.c.job_id == job_id))
    return removed.rowcount > 0


async def rekey(tx: Transaction, *, keys: Keyring, place: Place) -> tuple[int, Place | None]:
    """Re-encrypt the next few tokens and answers: how many, and where to go on, or None at the end."""
    tokens = await _next(tx, jobs.c.job_id, jobs.c.token, place.job_id)
    for row in tokens:
        changed = sa.update(jobs).where(jobs.c.job_id == row.key).values(token=keys.renew(row.secret))
        await tx.connection.execute(changed)
    raws = await _next(tx, answers.c.seq, answers.c.raw, place.answer)
    for row in raws:
        renewed = sa.update(answers).where(answers.c.seq == row.key).values(raw=keys.renew(row.secret))
        await tx.connection.execute(renewed)
    if not tokens and not raws:
        return 0, None
    reached = Place(
        job_id=tokens[-1].key if tokens else place.job_id, answer=raws[-1].key if raws else place.answer
    )
    return len(tokens) + len(raws), reached


async def standing(tx: Transaction, keys: Keyring) -> dict[Standing, int]:
    """How many secrets stand under which key."""
    found = dict.fromkeys(Standing, 0)
    for stored in (await tx.connection.execute(sa.select(sized_runners.c.token))).scalars():
        found[_standing(stored, keys)] += 1
    for key, secret in ((jobs.c.job_id, jobs.c.token), (answers.c.seq, answers.c.raw)):
        after = 0
        while rows := list(await tx.connection.execute(_after(key, secret, after))):
            for row in rows:
                found[_standing(row.secret, keys)] += 1
            after = rows[-1].key
    return found


def _standing(stored: bytes, keys: Keyring) -> Standing:
    if keys.is_first(stored):
        return Standing.FIRST
    try:
        keys.decrypt(stored)
    except KeyMissing:
        return Standing.UNREADABLE
    return Standing.OLDER


async def _next(tx: Transaction, key: sa.Column[int], secret: sa.Column[bytes], after: int) -> list[Any]:
    # Locked: a token that is deleted meanwhile must not come back.
    return list(await tx.connection.execute(_after(key, secret, after).with_for_update()))


def _after(key: sa.Column[int], secret: sa.Column[bytes], after: int) -> sa.Select[int, bytes]:
    return (
        sa.select(key.label("key"), secret.label("secret"))
        .where(key > after, secret.is_not(None))
        .order_by(key)
        .limit(REKEY_BATCH)
    )
