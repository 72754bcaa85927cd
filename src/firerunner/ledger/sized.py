"""Runners of sized tags: each is a pool that FireRunner has made for itself, with its runner in GitLab."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from firerunner.errors import StaleWrite
from firerunner.ledger import journal
from firerunner.ledger.keyring import Keyring
from firerunner.ledger.records import SIZED, SizedRunner
from firerunner.ledger.schema import sized_runners
from firerunner.ledger.transaction import Transaction


async def select(tx: Transaction, keys: Keyring) -> list[SizedRunner]:
    query = sa.select(sized_runners).order_by(sized_runners.c.created_at, sized_runners.c.pool)
    return [_record(row, keys) for row in await tx.connection.execute(query)]


async def add(tx: Transaction, runner: SizedRunner, keys: Keyring) -> SizedRunner:
    known = sa.select(sized_runners.c.pool).where(sized_runners.c.pool == runner.pool)
    if (await tx.connection.execute(known)).first() is not None:
        raise StaleWrite(f"there is a runner for {runner.pool} already", remedy="remove the second one")
    await tx.connection.execute(
        sa.insert(sized_runners).values(
            pool=runner.pool,
            gitlab=runner.gitlab,
            template=runner.template,
            tag=runner.tag,
            project_id=runner.project_id,
            vcpu=runner.vcpu,
            memory_mib=runner.memory_mib,
            runner_id=runner.runner_id,
            token=keys.encrypt(runner.token.encode()),
            created_at=runner.created_at,
            used_at=runner.used_at,
            removing=False,
        )
    )
    told = {"pool": runner.pool, "gitlab": runner.gitlab, "runner": runner.runner_id}
    await journal.write(tx, SIZED, runner.tag, "runner added", detail=told)
    return runner


async def touch(tx: Transaction, pool: str) -> None:
    await tx.connection.execute(
        sa.update(sized_runners).where(sized_runners.c.pool == pool).values(used_at=tx.at)
    )


async def begin_remove(tx: Transaction, pool: str, reason: str) -> None:
    changed = await tx.connection.execute(
        sa.update(sized_runners)
        .where(sized_runners.c.pool == pool, sized_runners.c.removing.is_(False))
        .values(removing=True)
    )
    if changed.rowcount:
        await journal.write(
            tx, SIZED, await _tag(tx, pool), "withdrawn", detail={"pool": pool, "reason": reason}
        )


async def remove(tx: Transaction, pool: str) -> None:
    tag = await _tag(tx, pool)
    await tx.connection.execute(sa.delete(sized_runners).where(sized_runners.c.pool == pool))
    await journal.write(tx, SIZED, tag, "runner removed", detail={"pool": pool})


async def rekey(tx: Transaction, keys: Keyring) -> int:
    """Re-encrypt every token; there are only as many as sizes."""
    query = sa.select(sized_runners.c.pool, sized_runners.c.token).with_for_update()
    rows = list(await tx.connection.execute(query))
    for row in rows:
        changed = sa.update(sized_runners).where(sized_runners.c.pool == row.pool)
        await tx.connection.execute(changed.values(token=keys.renew(row.token)))
    return len(rows)


async def _tag(tx: Transaction, pool: str) -> str:
    query = sa.select(sized_runners.c.tag).where(sized_runners.c.pool == pool)
    return str((await tx.connection.execute(query)).scalar_one_or_none() or pool)


def _record(row: Any, keys: Keyring) -> SizedRunner:
    return SizedRunner(
        pool=row.pool,
        gitlab=row.gitlab,
        template=row.template,
        tag=row.tag,
        project_id=row.project_id,
        vcpu=row.vcpu,
        memory_mib=row.memory_mib,
        runner_id=row.runner_id,
        token=keys.decrypt(row.token).decode(),
        created_at=row.created_at,
        used_at=row.used_at,
        removing=row.removing,
    )
