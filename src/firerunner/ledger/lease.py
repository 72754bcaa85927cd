"""Who leads: one row, whose epoch grows with every change of leader."""

from __future__ import annotations

import sqlalchemy as sa

from firerunner.errors import NotLeader
from firerunner.ledger import journal
from firerunner.ledger.schema import leases
from firerunner.ledger.transaction import Transaction

LEADER = "leader"
# Locked for reading: a new leader must wait until this transaction is over.
_EPOCH = sa.select(leases.c.epoch).where(leases.c.name == LEADER).with_for_update(read=True)


async def lead(tx: Transaction, holder: str, ttl_s: float, *, force: bool) -> int:
    row = (
        await tx.connection.execute(sa.select(leases).where(leases.c.name == LEADER).with_for_update())
    ).one_or_none()
    expires_at = tx.at + ttl_s
    if row is None:
        await tx.connection.execute(
            sa.insert(leases).values(name=LEADER, holder=holder, epoch=1, expires_at=expires_at)
        )
        await journal.write(tx, "lease", LEADER, "taken", detail={"holder": holder, "epoch": 1})
        return 1
    if row.holder == holder and not force:
        await _update(tx, expires_at=expires_at)
        return int(row.epoch)
    if row.holder and row.expires_at > tx.at and not force:
        raise NotLeader(
            f"{row.holder} leads (epoch {row.epoch}) for {row.expires_at - tx.at:.1f} s more",
            remedy="wait until it resigns or its lease runs out",
        )
    epoch = int(row.epoch) + 1
    await _update(tx, expires_at=expires_at, holder=holder, epoch=epoch)
    await journal.write(
        tx, "lease", LEADER, "taken", detail={"holder": holder, "epoch": epoch, "from": row.holder}
    )
    return epoch


async def resign(tx: Transaction, holder: str) -> None:
    resigned = await tx.connection.execute(
        sa.update(leases)
        .where(leases.c.name == LEADER, leases.c.holder == holder)
        .values(holder="", expires_at=tx.at)
    )
    if resigned.rowcount:
        await journal.write(tx, "lease", LEADER, "resigned", detail={"holder": holder})


async def fence(tx: Transaction) -> None:
    """Let a write pass only if no newer leader has been. Observers have no epoch and pass."""
    if tx.epoch is None:
        return
    epoch = (await tx.connection.execute(_EPOCH)).scalar_one_or_none()
    if epoch != tx.epoch:
        raise NotLeader(
            f"this controller led in epoch {tx.epoch}, but now it is epoch {epoch}",
            remedy="it has to stop acting and stand for leader again",
        )


async def _update(tx: Transaction, **values: object) -> None:
    await tx.connection.execute(sa.update(leases).where(leases.c.name == LEADER).values(**values))
