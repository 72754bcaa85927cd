"""What a controller that does not lead has heard and the leader has to know: read once, then gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from firerunner.ledger.schema import signals
from firerunner.ledger.transaction import Transaction

_INSERT = sa.insert(signals)
_ANY = sa.select(signals.c.seq).limit(1)
_ALL = sa.select(signals.c.seq, signals.c.kind, signals.c.body).order_by(signals.c.seq).limit(1000)


async def send(tx: Transaction, kind: str, body: Mapping[str, Any]) -> None:
    await tx.connection.execute(_INSERT, {"at": tx.at, "kind": kind, "body": dict(body)})


async def waiting(tx: Transaction) -> bool:
    return (await tx.connection.execute(_ANY)).first() is not None


async def receive(tx: Transaction) -> list[tuple[str, dict[str, Any]]]:
    rows = list(await tx.connection.execute(_ALL))
    await tx.connection.execute(sa.delete(signals).where(signals.c.seq.in_([row.seq for row in rows])))
    return [(row.kind, row.body) for row in rows]
