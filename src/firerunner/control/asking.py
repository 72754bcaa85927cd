"""The actor of the ask: one `POST /jobs/request` for one reserved or waiting machine.

The order of writes is the point. Before the ask the ledger says that one is in flight; GitLab's
raw answer is committed, encrypted, before anything looks into it; only then is it parsed and the
job taken. A crash at any point leaves either nothing of GitLab's in our hands, or the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, assert_never

from firerunner.control.context import Context
from firerunner.control.ids import new_machine_id
from firerunner.control.lost import look_up, remember
from firerunner.errors import BadAnswer, GitLabError, LedgerError, NotLeader, StaleWrite
from firerunner.gitlab import (
    MAX_RETRY_AFTER_S,
    AskedJob,
    AskedNothing,
    Raced,
    Refused,
    Trouble,
    parse_answer,
    salvage,
)
from firerunner.ledger import MachineRecord, MachineState, NewJob
from firerunner.planning import Ask, AskEnded, AskOutcome, PoolLimited
from firerunner.settings import PoolSettings
from firerunner.telemetry.about import MACHINE
from firerunner.telemetry.catalogue import ASKS, JOB_QUEUED

Written = TypeVar("Written")

REFUSED_PAUSE_S = 60.0
TROUBLE_PAUSE_S = 5.0
RACED_PAUSE_S = 1.0
WRITE_RETRY_S = 1.0
LIMITED = "limited"
"""The journal's row of a pool that GitLab has asked to be left alone by, `until` a time (Unix seconds)."""
LIMITS_READ = 50


async def ask(ctx: Context, action: Ask, image_digest: str, info: dict[str, Any]) -> None:
    """Ask GitLab for one job. Posts `AskEnded` in every case, so that the pool goes on."""
    outcome, retry_at, reason = AskOutcome.TROUBLE, ctx.clock() + TROUBLE_PAUSE_S, "the ask broke off"
    machine_id = action.machine_id or new_machine_id()
    machine: MachineRecord | None = None
    try:
        pool = ctx.pools[action.pool]  # looked up once: settings may change meanwhile
        if action.machine_id is None:
            fresh = await ctx.ledger.reserve(
                *(machine_id, action.pool, action.host, pool.resources, image_digest),
                gitlab=pool.gitlab,
                asking=True,
            )
            ctx.post_machine(fresh)
        else:
            await _begin_again(ctx, pool, machine_id, action.host, image_digest)
        try:
            outcome, retry_at, reason = await _ask(ctx, pool, machine_id, info)
        except Exception:
            # Not for a cancellation: then the ask may still be answered, and the mark has to stay.
            await _until_written(ctx, machine_id, lambda: ctx.ledger.end_ask(machine_id, "broke off"))
            raise
        machine = await _until_written(ctx, machine_id, lambda: _end(ctx, machine_id))
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
                outcome=outcome,
                retry_at=retry_at,
                reason=reason,
                at=ctx.clock(),
            )
        )


async def _end(ctx: Context, machine_id: str) -> MachineRecord:
    """The machine after its ask. One that brought a job is over already: it was taken in the same write."""
    machine = await ctx.ledger.machine(machine_id)
    if machine is None or machine.ask_started_at is not None:
        return await ctx.ledger.end_ask(machine_id)
    return machine


async def _begin_again(
    ctx: Context, pool: PoolSettings, machine_id: str, host: str, image_digest: str
) -> None:
    """Ask once more for an id that is there already."""
    try:
        await ctx.ledger.begin_ask(
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
    ctx: Context, pool: PoolSettings, machine_id: str, info: dict[str, Any]
) -> tuple[AskOutcome, float, str]:
    name, gitlab = pool.name, pool.gitlab
    asks = ctx.gitlab(gitlab).asks
    try:  # what an earlier ask for this id may have lost comes first: afterwards it could not be told apart
        await look_up(ctx, machine_id)
    except GitLabError as error:
        return AskOutcome.TROUBLE, ctx.clock() + TROUBLE_PAUSE_S, error.message
    await ctx.assure()
    asked_at = ctx.clock()
    if asked_at < (until := ctx.limited.get(name, asked_at)):  # said to another ask of the pool meanwhile
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
            ctx.reading.add(machine_id)
            await _until_written(ctx, machine_id, lambda: ctx.ledger.keep_answer(machine_id, raw))
            await take_answer(ctx, machine_id, raw)
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
        await _note_limit(ctx, pool.name, ctx.clock() + trouble.retry_after_s)


async def _note_limit(ctx: Context, pool: str, until: float) -> None:
    """For asks that are about to be sent, and for who leads next: however often we are started anew."""
    ctx.limited[pool] = max(until, ctx.limited.get(pool, until))
    try:
        await ctx.ledger.note("pool", pool, LIMITED, {"until": until})
    except LedgerError as error:
        ctx.log.warning("a limit that GitLab has announced cannot be written down", error=str(error))


async def limits(ctx: Context) -> list[PoolLimited]:
    """What GitLab has announced before and is not over yet. Raises LedgerError."""
    now, found = ctx.clock(), []
    for pool in ctx.pools:
        rows = await ctx.ledger.last_journal_of(pool, LIMITED, LIMITS_READ)
        until = max((row.detail["until"] for row in rows), default=now)
        if until > now:
            found.append(PoolLimited(pool, min(until, now + MAX_RETRY_AFTER_S), at=now))
    return found


async def _until_written(ctx: Context, machine_id: str, write: Callable[[], Awaitable[Written]]) -> Written:
    """Write what must not be lost, however long the database takes: until then it is only in memory."""
    while True:
        try:
            return await write()
        except (NotLeader, StaleWrite):
            raise
        except LedgerError as error:
            ctx.log.error("the ledger cannot be written now", machine=machine_id, error=str(error))
            await asyncio.sleep(WRITE_RETRY_S)


async def take_answer(ctx: Context, machine_id: str, raw: bytes) -> None:
    """Turn a kept answer into a job of this machine; one that is unfit is given back to GitLab.

    Raises NotLeader only: whatever else is wrong with an answer is dealt with here, and noted.
    """
    ctx.reading.add(machine_id)
    try:
        await _take_answer(ctx, machine_id, raw)
    finally:
        ctx.reading.discard(machine_id)


async def read_answers(ctx: Context) -> None:
    """Take what was kept and not read: by one that died, or that led no more when GitLab answered."""
    for machine_id, raw in await ctx.ledger.unread_answers():
        if machine_id not in ctx.reading:
            ctx.log.warning("an answer of GitLab was kept but not yet read", machine=machine_id)
            await take_answer(ctx, machine_id, raw)


async def _take_answer(ctx: Context, machine_id: str, raw: bytes) -> None:
    try:
        job = parse_answer(raw)
        new = NewJob(
            job_id=job.id,
            job_token=job.token,
            name=job.job_info.name,
            project_id=job.job_info.project_id or 0,
            project_path=job.project_path,
            timeout_s=job.runner_info.timeout,
        )
        taken = await _until_written(ctx, machine_id, lambda: ctx.ledger.take(machine_id, new))
    except StaleWrite as error:  # this job was taken before, for another machine
        await _discard(ctx, machine_id, str(error))
        return
    except BadAnswer as error:
        await _give_back(ctx, machine_id, raw, error.message)
        return
    except (OverflowError, ValueError) as error:  # numbers and names that no database takes
        await _give_back(ctx, machine_id, raw, f"{type(error).__name__}: {error}")
        return
    if job.job_info.time_in_queue_seconds is not None:
        ctx.metrics.observe(JOB_QUEUED, job.job_info.time_in_queue_seconds, taken.pool)
    ctx.wake_gate(machine_id)


async def _give_back(ctx: Context, machine_id: str, raw: bytes, why: str) -> None:
    """A 201 that cannot be used: the job is ours in GitLab, so it is failed there if at all possible."""
    found = salvage(raw)
    ctx.log.error("GitLab's answer to an ask cannot be used", machine=machine_id, error=why, bytes=len(raw))
    await ctx.ledger.note("machine", machine_id, "answer_unreadable", {"error": why, "bytes": len(raw)})
    try:
        if found is None:
            raise ValueError("it holds no job id and token")
        job_id, token = found
        taken = await ctx.ledger.take(machine_id, NewJob(job_id, token, "unreadable", 0, "unreadable", None))
        await ctx.ledger.drop_payload(taken.job_id)
    except (StaleWrite, OverflowError, ValueError) as error:
        await _discard(ctx, machine_id, f"{why}; {error}")
        machine = await ctx.ledger.machine(machine_id)
        if found is None and machine is not None:
            await remember(ctx, machine_id, machine.pool, machine.gitlab, ctx.clock(), why)
    await fail_machine(ctx, machine_id, f"GitLab's answer cannot be used: {why}")


async def _discard(ctx: Context, machine_id: str, why: str) -> None:
    ctx.log.error("an answer of GitLab is thrown away", machine=machine_id, reason=why)
    await _until_written(ctx, machine_id, lambda: ctx.ledger.discard_answer(machine_id, why))


async def fail_machine(
    ctx: Context, machine_id: str, reason: str, *, judged: MachineState | None = None
) -> None:
    """Give the machine up. Its job is settled and it is retired by whoever sees it in `failed`.

    `judged` is the state on which the verdict rests: if the machine has moved on since, it is left alone.
    """
    machine = await ctx.ledger.machine(machine_id)
    if machine is None or machine.state in {MachineState.FAILED, MachineState.RETIRING, MachineState.GONE}:
        return
    try:
        machine = await ctx.ledger.move_machine(
            machine_id, MachineState.FAILED, reason=reason, expect=judged or machine.state
        )
    except StaleWrite:
        return
    ctx.post_machine(machine)
