"""The actor of the ask: one `POST /jobs/request` for one reserved or waiting machine.

Before the ask the ledger says that one is in flight; what GitLab answers is committed before anything else
is done with it (`control/taking.py`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, assert_never

from firerunner.control.context import Context
from firerunner.control.failing import fail_machine
from firerunner.control.ids import new_machine_id
from firerunner.control.lost import look_up, remember
from firerunner.control.pools import runner_mark
from firerunner.control.taking import receive, until_written
from firerunner.errors import GitLabError, LedgerError, StaleWrite
from firerunner.gitlab import (
    MAX_RETRY_AFTER_S,
    AskedJob,
    AskedNothing,
    Raced,
    Refused,
    Trouble,
)
from firerunner.ledger import MachineRecord, MachineState
from firerunner.planning import Ask, AskEnded, AskOutcome, PoolLimited
from firerunner.settings import PoolSettings
from firerunner.telemetry.about import MACHINE
from firerunner.telemetry.catalogue import ASKS

REFUSED_PAUSE_S = 60.0
TROUBLE_PAUSE_S = 5.0
RACED_PAUSE_S = 1.0
JOBS_FIRST_S = 0.02
"""An ask that found nothing is written down so much later: a hook wakes several pools, and one of them may
just have got the job."""
LIMITED = "limited"
"""The journal's row of a pool whose `runner` GitLab has asked not to ask, `until` a time (Unix seconds)."""
LIMITS_READ = 50


async def ask(ctx: Context, action: Ask, image_digest: str, info: dict[str, Any]) -> None:
    """Ask GitLab for one job. Posts `AskEnded` in every case, so that the pool goes on."""
    outcome, retry_at, reason = AskOutcome.TROUBLE, ctx.clock() + TROUBLE_PAUSE_S, "the ask broke off"
    machine_id = action.machine_id or new_machine_id()
    machine: MachineRecord | None = None
    pool = ctx.pools[action.pool]  # looked up once: settings may change meanwhile
    try:
        if action.machine_id is None:
            asking = await ctx.ledger.reserve(
                *(machine_id, action.pool, action.host, pool.resources, image_digest),
                gitlab=pool.gitlab,
                asking=True,
            )
            ctx.post_machine(asking)
        else:
            asking = await _begin_again(ctx, pool, machine_id, action.host, image_digest)
        try:
            outcome, retry_at, reason = await _ask(ctx, pool, asking, info)
            if outcome is AskOutcome.NOTHING:
                await asyncio.sleep(JOBS_FIRST_S)
        except Exception:
            # Not for a cancellation: then the ask may still be answered, and the mark has to stay.
            await until_written(ctx, machine_id, lambda: ctx.ledger.end_ask(machine_id, "broke off"))
            raise
        machine = await until_written(ctx, machine_id, lambda: _end(ctx, machine_id, outcome))
    finally:
        ctx.metrics.count(ASKS, action.pool, outcome.value)
        if machine is not None:
            ctx.post_machine(machine)
        else:
            await _post_machine(ctx, machine_id)
        ctx.post(
            AskEnded(
                pool=action.pool,
                number=action.number,
                machine_id=machine_id,
                runner=runner_mark(pool),
                outcome=outcome,
                retry_at=retry_at,
                reason=reason,
                at=ctx.clock(),
            )
        )


async def _end(ctx: Context, machine_id: str, outcome: AskOutcome) -> MachineRecord:
    """The machine after its ask. One that brought a job is over already: it was taken in the same write."""
    machine = await ctx.ledger.machine(machine_id) if outcome is AskOutcome.JOB else None
    if machine is None or machine.ask_started_at is not None:
        return await ctx.ledger.end_ask(machine_id)
    return machine


async def _begin_again(
    ctx: Context, pool: PoolSettings, machine_id: str, host: str, image_digest: str
) -> MachineRecord:
    """Ask once more for an id that is there already."""
    try:
        return await ctx.ledger.begin_ask(
            machine_id, host=host, resources=pool.resources, image_digest=image_digest, gitlab=pool.gitlab
        )
    except StaleWrite as error:
        # The id may not be used again: an earlier ask for it could not be marked as over, or it is
        # known to another GitLab than the pool has now.
        with suppress(StaleWrite):
            await ctx.ledger.end_ask(machine_id, "never marked as over")
        await fail_machine(ctx, machine_id, str(error), judged=MachineState.RESERVED)
        raise


async def _post_machine(ctx: Context, machine_id: str) -> None:
    try:
        machine = await ctx.ledger.machine(machine_id)
    except LedgerError as error:
        ctx.log.error("the ledger cannot be read now", error=str(error))
        return
    if machine is not None:
        ctx.post_machine(machine)


async def _ask(
    ctx: Context, pool: PoolSettings, machine: MachineRecord, info: dict[str, Any]
) -> tuple[AskOutcome, float, str]:
    name, gitlab, machine_id = pool.name, pool.gitlab, machine.machine_id
    asks = ctx.gitlab(gitlab).asks
    try:  # what an earlier ask for this id may have lost comes first: afterwards it could not be told apart
        await look_up(ctx, machine_id)
    except GitLabError as error:
        return AskOutcome.TROUBLE, ctx.clock() + TROUBLE_PAUSE_S, error.message
    await ctx.assure()
    asked_at = ctx.clock()
    if asked_at < (until := ctx.limited.get(runner_mark(pool), asked_at)):  # said to another ask meanwhile
        return AskOutcome.TROUBLE, until, "GitLab has asked not to be asked before then"
    MACHINE.set(machine_id)
    answer = await asks.ask(pool.token, machine_id, info, ctx.last_update.get(name))
    now = ctx.clock()
    if isinstance(answer, Trouble):
        ctx.gitlab_faults[gitlab] = answer.message
    else:
        ctx.gitlab_faults.pop(gitlab, None)
    match answer:
        case AskedJob(raw=raw):
            ctx.last_update.pop(name, None)
            await receive(ctx, machine, raw)
            return AskOutcome.JOB, now, ""
        case AskedNothing(last_update=last_update):
            if last_update:
                ctx.last_update[name] = last_update
            return AskOutcome.NOTHING, now + pool.check_interval, ""
        case Refused(status=status, message=message):
            ctx.log.error("runner token refused", pool=name, status=status, message=message)
            return AskOutcome.REFUSED, now + REFUSED_PAUSE_S, f"GitLab refused the runner token ({status})"
        case Raced(message=message):
            return AskOutcome.RACED, now + RACED_PAUSE_S, message
        case Trouble():
            await _note_trouble(ctx, pool, machine_id, asked_at, answer)
            return AskOutcome.TROUBLE, now + (answer.retry_after_s or TROUBLE_PAUSE_S), answer.message
        case _:
            assert_never(answer)


async def _note_trouble(
    ctx: Context, pool: PoolSettings, machine_id: str, asked_at: float, trouble: Trouble
) -> None:
    """What must outlive us: that a job may be lost, and that GitLab wants to be left alone."""
    if trouble.maybe_assigned and machine_id not in ctx.lost:
        await remember(ctx, machine_id, pool.name, pool.gitlab, asked_at, trouble.message)
    ctx.log.warning("ask failed", pool=pool.name, machine=machine_id, message=trouble.message)
    if trouble.retry_after_s is not None:
        await _note_limit(ctx, pool, ctx.clock() + trouble.retry_after_s)


async def _note_limit(ctx: Context, pool: PoolSettings, until: float) -> None:
    """For asks that are about to be sent, and for who leads next: however often we are started anew."""
    runner = runner_mark(pool)
    ctx.limited[runner] = max(until, ctx.limited.get(runner, until))
    try:
        await ctx.ledger.note("pool", pool.name, LIMITED, {"until": until, "runner": runner})
    except LedgerError as error:
        ctx.log.warning("a limit that GitLab has announced cannot be written down", error=str(error))


async def limits(ctx: Context) -> list[PoolLimited]:
    """What GitLab has announced before and is not over yet. Raises LedgerError."""
    now, found = ctx.clock(), []
    for pool in ctx.pools.values():
        runner = runner_mark(pool)
        rows = await ctx.ledger.last_journal_of(pool.name, LIMITED, LIMITS_READ)
        told = [row.detail for row in rows]
        # Rows of older versions name no runner.
        until = max((each["until"] for each in told if each.get("runner", runner) == runner), default=now)
        if until > now:
            ctx.limited[runner] = min(until, now + MAX_RETRY_AFTER_S)
            found.append(PoolLimited(pool.name, ctx.limited[runner], at=now))
    return found
