"""From GitLab's 201 to a job in the ledger.

The order of writes is the point. The answer, the job that it holds and the machine's launch are one commit;
whatever is wrong with that, the raw answer is committed alone, encrypted, and read afterwards. A crash at
any point leaves either nothing of GitLab's in our hands, or the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from firerunner.control.context import Context
from firerunner.control.failing import fail_machine
from firerunner.control.lost import remember
from firerunner.errors import BadAnswer, LedgerError, NotLeader, StaleWrite
from firerunner.gitlab import JobAnswer, parse_answer, salvage
from firerunner.ledger import JobRecord, MachineRecord, MachineState, NewJob
from firerunner.telemetry.catalogue import JOB_QUEUED

Written = TypeVar("Written")

WRITE_RETRY_S = 1.0


async def until_written(ctx: Context, machine_id: str, write: Callable[[], Awaitable[Written]]) -> Written:
    """Write what must not be lost, however long the database takes: until then it is only in memory."""
    while True:
        try:
            return await write()
        except (NotLeader, StaleWrite):
            raise
        except LedgerError as error:
            ctx.log.error("the ledger cannot be written now", machine=machine_id, error=str(error))
            await asyncio.sleep(WRITE_RETRY_S)


async def receive(ctx: Context, machine: MachineRecord, raw: bytes) -> None:
    """GitLab has answered the machine's ask with a job. Raises NotLeader only, once the answer is kept."""
    if await _take_at_once(ctx, machine, raw):
        return
    machine_id = machine.machine_id
    ctx.reading.add(machine_id)
    await until_written(ctx, machine_id, lambda: ctx.ledger.keep_answer(machine_id, raw))
    await take_answer(ctx, machine_id, raw)


async def _take_at_once(ctx: Context, machine: MachineRecord, raw: bytes) -> bool:
    """Keep the answer, take its job and begin the launch in one commit: each costs a disk flush, and the job
    waits for it. False if anything is in the way of that: then the answer is still to be kept."""
    try:
        job = parse_answer(raw)
        taking = asyncio.ensure_future(ctx.ledger.take(machine.machine_id, _new_job(job), answer=raw))
        if machine.state is MachineState.RESERVED:
            ctx.launch(machine)  # its first write comes right after ours, with nobody between, for one commit
        taken = await taking
    except Exception as error:  # a fault of ours must not cost the answer
        ctx.log.warning("an answer is kept before it is read", machine=machine.machine_id, reason=str(error))
        return False
    _note_taken(ctx, job, taken)
    ctx.wake_gate(machine.machine_id)
    return True


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
        new = _new_job(job)
        taken = await until_written(ctx, machine_id, lambda: ctx.ledger.take(machine_id, new))
    except StaleWrite as error:  # this job was taken before, for another machine
        await _discard(ctx, machine_id, str(error))
        return
    except BadAnswer as error:
        await _give_back(ctx, machine_id, raw, error.message)
        return
    except (OverflowError, ValueError) as error:  # numbers and names that no database takes
        await _give_back(ctx, machine_id, raw, f"{type(error).__name__}: {error}")
        return
    _note_taken(ctx, job, taken)
    ctx.wake_gate(machine_id)


def _new_job(job: JobAnswer) -> NewJob:
    return NewJob(
        job_id=job.id,
        job_token=job.token,
        name=job.job_info.name,
        project_id=job.job_info.project_id or 0,
        project_path=job.project_path,
        timeout_s=job.runner_info.timeout,
    )


def _note_taken(ctx: Context, job: JobAnswer, taken: JobRecord) -> None:
    if job.job_info.time_in_queue_seconds is not None:
        ctx.metrics.observe(JOB_QUEUED, job.job_info.time_in_queue_seconds, taken.pool)


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
    await until_written(ctx, machine_id, lambda: ctx.ledger.discard_answer(machine_id, why))
