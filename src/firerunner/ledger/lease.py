"""Who leads: one row, whose epoch grows with every change of leader.

No clock decides. The leader beats; who has watched a lease without a beat for long enough may take it, and
names the beat that it saw last, so that a leader that has beaten since keeps it.
"""

from __future__ import annotations

import sqlalchemy as sa

from firerunner.errors import NotLeader
from firerunner.ledger import journal
from firerunner.ledger.records import Lease
from firerunner.ledger.schema import leases
from firerunner.ledger.transaction import Transaction

LEADER = "leader"
_ROW = sa.select(leases).where(leases.c.name == LEADER)
_LOCKED = _ROW.with_for_update()
# Locked for reading: a new leader must wait until this transaction is over.
_EPOCH = sa.select(leases.c.epoch).where(leases.c.name == LEADER).with_for_update(read=True)
_UPDATE = sa.update(leases).where(leases.c.name == LEADER)


async def read(tx: Transaction) -> Lease | None:
    row = (await tx.connection.execute(_ROW)).one_or_none()
    return None if row is None else Lease(row.holder, row.epoch, row.beats)


async def lead(tx: Transaction, holder: str, *, silent: Lease | None, force: bool) -> int:
    row = (await tx.connection.execute(_LOCKED)).one_or_none()
    if row is None:
        await tx.connection.execute(sa.insert(leases).values(name=LEADER, holder=holder, epoch=1, beats=0))
        await journal.write(tx, "lease", LEADER, "taken", detail={"holder": holder, "epoch": 1})
        return 1
    now = Lease(row.holder, row.epoch, row.beats)
    if now.holder == holder and not force:
        await tx.connection.execute(_UPDATE.values(beats=now.beats + 1))
        return now.epoch
    if now.holder and now != silent and not force:
        raise NotLeader(
            f"{now.holder} leads (epoch {now.epoch})",
            remedy="wait until it resigns or its heart stops beating",
        )
    epoch = now.epoch + 1
    await tx.connection.execute(_UPDATE.values(holder=holder, epoch=epoch, beats=0))
    await journal.write(
        tx, "lease", LEADER, "taken", detail={"holder": holder, "epoch": epoch, "from": now.holder}
    )
    return epoch


async def resign(tx: Transaction, holder: str) -> None:
    resigned = await tx.connection.execute(
        _UPDATE.where(leases.c.holder == holder).values(holder="", beats=leases.c.beats + 1)
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
