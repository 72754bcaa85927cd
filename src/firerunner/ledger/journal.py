"""The journal: what happened, in order, and which side effects are under way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

import sqlalchemy as sa

from firerunner.errors import StaleWrite
from firerunner.ledger.records import JournalEntry
from firerunner.ledger.schema import intents, journal
from firerunner.ledger.transaction import Transaction

INTENDED = "intended"
DONE = "done"

# Made once: to make a statement takes longer than to run it.
_INSERT = sa.insert(journal)
_INTEND = sa.insert(intents)
_DONE = sa.delete(intents).where(intents.c.seq == sa.bindparam("wanted"))
_SAME = ("subject_kind", "subject", "event")
_NOTE_DONE = sa.insert(journal).from_select(
    ["at", *_SAME, "from_state", "to_state", "detail", "epoch"],
    sa.select(
        sa.bindparam("now", type_=journal.c.at.type),
        *(journal.c[name] for name in _SAME),
        sa.literal(INTENDED),
        sa.literal(DONE),
        sa.bindparam("outcome", type_=journal.c.detail.type),
        sa.bindparam("era", type_=journal.c.epoch.type),
    ).where(journal.c.seq == sa.bindparam("wanted")),
)


class Told(TypedDict, total=False):
    """What a row may say besides its subject and event."""

    from_state: str | None
    to_state: str | None
    detail: Mapping[str, Any] | None


async def write(
    tx: Transaction,
    subject_kind: str,
    subject: str,
    event: str,
    **told: Unpack[Told],
) -> int:
    """Add one row, as `row` makes it, and return its number."""
    result = await tx.connection.execute(_INSERT, row(tx, subject_kind, subject, event, **told))
    key = result.inserted_primary_key
    assert key is not None  # noqa: S101  (an INSERT of one row always has one)
    return int(key[0])


def row(
    tx: Transaction,
    subject_kind: str,
    subject: str,
    event: str,
    *,
    from_state: str | None = None,
    to_state: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is to be written. `detail` must be JSON, and never holds a secret."""
    return {
        "at": tx.at,
        "subject_kind": subject_kind,
        "subject": subject,
        "event": event,
        "from_state": from_state,
        "to_state": to_state,
        "detail": dict(detail or {}),
        "epoch": tx.epoch,
    }


async def write_all(tx: Transaction, rows: list[dict[str, Any]]) -> None:
    """Add them in their order, by one statement."""
    await tx.connection.execute(_INSERT, rows)


async def read(tx: Transaction, after: int, subject: str | None, limit: int) -> list[JournalEntry]:
    query = sa.select(journal).where(journal.c.seq > after).order_by(journal.c.seq).limit(limit)
    if subject is not None:
        query = query.where(journal.c.subject == subject)
    return await _entries(tx, query)


async def read_last(tx: Transaction, subject: str | None, limit: int) -> list[JournalEntry]:
    query = sa.select(journal).order_by(journal.c.seq.desc()).limit(limit)
    if subject is not None:
        query = query.where(journal.c.subject == subject)
    return (await _entries(tx, query))[::-1]


async def read_last_of(tx: Transaction, subject: str, event: str, limit: int) -> list[JournalEntry]:
    about = (journal.c.subject == subject, journal.c.event == event)
    query = sa.select(journal).where(*about).order_by(journal.c.seq.desc()).limit(limit)
    return (await _entries(tx, query))[::-1]


async def intend(
    tx: Transaction, subject_kind: str, subject: str, action: str, detail: Mapping[str, Any]
) -> int:
    seq = await write(tx, subject_kind, subject, action, to_state=INTENDED, detail=detail)
    await tx.connection.execute(_INTEND, {"seq": seq})
    return seq


async def done(tx: Transaction, seq: int, outcome: Mapping[str, Any]) -> None:
    removed = await tx.connection.execute(_DONE, {"wanted": seq})
    if removed.rowcount == 0:
        raise StaleWrite(f"the journal has no unfinished side effect number {seq}")
    told = {"intent": seq, **outcome}
    await tx.connection.execute(_NOTE_DONE, {"wanted": seq, "now": tx.at, "outcome": told, "era": tx.epoch})


async def unfinished(tx: Transaction) -> list[JournalEntry]:
    return await _entries(
        tx, sa.select(journal).join(intents, intents.c.seq == journal.c.seq).order_by(journal.c.seq)
    )


async def _entries(tx: Transaction, query: sa.Select[Any]) -> list[JournalEntry]:
    return [
        JournalEntry(
            seq=row.seq,
            at=row.at,
            subject_kind=row.subject_kind,
            subject=row.subject,
            event=row.event,
            from_state=row.from_state,
            to_state=row.to_state,
            detail=row.detail,
            epoch=row.epoch,
        )
        for row in await tx.connection.execute(query)
    ]
