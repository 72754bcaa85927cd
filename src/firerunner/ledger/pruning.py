"""Removes what is over and old, a batch per transaction, so that nobody waits long."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from firerunner.ledger.schema import answers, intents, jobs, journal, machines
from firerunner.ledger.states import OPEN_JOBS, MachineState
from firerunner.ledger.transaction import Transaction


async def prune_journal(tx: Transaction, before: float, limit: int) -> int:
    """Rows of unfinished side effects stay, however old."""
    old = (
        sa.select(journal.c.seq)
        .where(journal.c.at < before, journal.c.seq.not_in(sa.select(intents.c.seq)))
        .order_by(journal.c.seq)
        .limit(limit)
    )
    return await _delete(tx, sa.delete(journal).where(journal.c.seq.in_(old)))


async def prune_jobs(tx: Transaction, before: float, limit: int) -> int:
    old = (
        sa.select(jobs.c.job_id)
        .where(
            jobs.c.state.not_in(sorted(OPEN_JOBS)),
            jobs.c.state_since < before,
        )
        .limit(limit)
    )
    return await _delete(tx, sa.delete(jobs).where(jobs.c.job_id.in_(old)))


async def prune_machines(tx: Transaction, before: float, limit: int) -> int:
    """Machines that are gone, unless a job that is still there names them."""
    needed = sa.select(jobs.c.machine_id).where(jobs.c.machine_id.is_not(None))
    old = (
        sa.select(machines.c.machine_id)
        .where(
            machines.c.state == MachineState.GONE,
            machines.c.state_since < before,
            machines.c.machine_id.not_in(needed),
            machines.c.machine_id.not_in(sa.select(answers.c.machine_id)),
        )
        .limit(limit)
    )
    return await _delete(tx, sa.delete(machines).where(machines.c.machine_id.in_(old)))


async def _delete(tx: Transaction, statement: sa.Delete) -> int:
    result: sa.CursorResult[Any] = await tx.connection.execute(statement)
    return result.rowcount
