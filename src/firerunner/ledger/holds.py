"""Machines of failed jobs that are kept for a look."""

from __future__ import annotations

import sqlalchemy as sa

from firerunner.errors import StaleWrite
from firerunner.ledger import journal
from firerunner.ledger import machines as machine_rows
from firerunner.ledger.records import MachineRecord
from firerunner.ledger.schema import machines
from firerunner.ledger.states import MachineState
from firerunner.ledger.transaction import Transaction


async def hold(tx: Transaction, machine_id: str, seconds: float, limit: int) -> float | None:
    machine = await machine_rows.get(tx, machine_id)
    if machine.state is not MachineState.BUSY:
        return None
    if machine.held_until is not None:
        return machine.held_until
    others = sa.select(sa.func.count()).where(
        machines.c.pool == machine.pool,
        machines.c.state == MachineState.BUSY,
        machines.c.held_until > tx.at,
    )
    if (await tx.connection.execute(others)).scalar_one() >= limit:
        await journal.write(tx, "machine", machine_id, "not held", detail={"reason": f"{limit} are held"})
        return None
    until = tx.at + seconds
    await _set(tx, machine, until, "held", {"until": until, "job": machine.job_id})
    return until


async def release(tx: Transaction, machine_id: str) -> None:
    machine = await machine_rows.get(tx, machine_id)
    if machine.held_until is None or machine.held_until <= tx.at or machine.state is not MachineState.BUSY:
        raise StaleWrite(f"machine {machine_id} is not held", remedy="See `firerunner hold list`")
    await _set(tx, machine, tx.at, "released", {})


async def _set(
    tx: Transaction, machine: MachineRecord, until: float, event: str, detail: dict[str, object]
) -> None:
    row = machines.c.machine_id == machine.machine_id
    await tx.connection.execute(sa.update(machines).where(row).values(held_until=until))
    await journal.write(tx, "machine", machine.machine_id, event, detail=detail)
