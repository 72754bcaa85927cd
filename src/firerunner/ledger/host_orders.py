"""What operators have said of hosts: they outlive a restart, and are read by whoever leads."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from firerunner.ledger import journal
from firerunner.ledger.records import HOST, HostOrder, HostUse
from firerunner.ledger.schema import host_orders
from firerunner.ledger.transaction import Transaction


async def select(tx: Transaction) -> dict[str, HostOrder]:
    rows = await tx.connection.execute(sa.select(host_orders))
    return {row.host: HostOrder(HostUse(row.use), row.reason, row.since, row.believed_at) for row in rows}


async def use(tx: Transaction, host: str, wanted: HostUse, reason: str) -> None:
    await _put(tx, host, {"use": wanted, "reason": reason, "since": tx.at})
    await journal.write(tx, HOST, host, wanted, detail={"reason": reason})


async def believe(tx: Transaction, host: str) -> None:
    await _put(tx, host, {"believed_at": tx.at})
    await journal.write(tx, HOST, host, "believed")


async def _put(tx: Transaction, host: str, values: dict[str, Any]) -> None:
    changed = await tx.connection.execute(
        sa.update(host_orders).where(host_orders.c.host == host).values(**values)
    )
    if not changed.rowcount:
        fresh = {"use": HostUse.NORMAL, "reason": "", "since": tx.at} | values
        await tx.connection.execute(sa.insert(host_orders).values(host=host, **fresh))
