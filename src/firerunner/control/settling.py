"""The actor that gives every job an end, also when its machine is dead.

An open job whose machine is failed, retiring or gone is either not yet delivered, and then gets
another machine, or delivered, and then GitLab is told `runner_system_failure` with the job's own
token, so that the author's `retry:` rules act within seconds instead of after GitLab's one-hour
stuck check (reference: gitlab.md 3.8).
"""

from __future__ import annotations

from firerunner.control.context import Context
from firerunner.errors import GitLabError, StaleWrite
from firerunner.ledger import JobRecord, JobState, MachineRecord, MachineState
from firerunner.planning import JobHomeless, JobOver

MAX_MACHINES_PER_JOB = 3
SYSTEM_FAILURE = "runner_system_failure"
DEAD = frozenset({MachineState.FAILED, MachineState.RETIRING, MachineState.GONE})


def needs_settling(job: JobRecord, machine: MachineRecord | None) -> bool:
    """True if nobody but us can bring this open job to an end."""
    return machine is None or machine.state in DEAD


async def settle(ctx: Context, job_id: int) -> bool:
    """Settle one such job. False if GitLab could not be told now: call again later."""
    async with ctx.locks[f"job-{job_id}"]:
        job = await ctx.ledger.job(job_id)
        if job is None or job.state in {JobState.ENDED, JobState.RETURNED}:
            return True
        machine = await ctx.ledger.machine(job.machine_id) if job.machine_id else None
        if not needs_settling(job, machine):
            return True
        why = machine.reason if machine and machine.reason else "its machine vanished"
        undelivered = job.state in {JobState.TAKEN, JobState.ASSIGNED} and job.has_payload
        if undelivered and job.attempts < MAX_MACHINES_PER_JOB and ctx.pools.serves(job.pool, job.gitlab):
            ctx.post(JobHomeless(job_id=job_id, pool=job.pool, at=ctx.clock()))
            return True
        return await give_back(ctx, job, why)


async def give_back_undelivered(ctx: Context, job_id: int, why: str, *, canceling: bool = False) -> bool:
    """Give up a job that no machine could be delivered for. False if GitLab could not be told now."""
    async with ctx.locks[f"job-{job_id}"]:
        job = await ctx.ledger.job(job_id)
        if job is None or job.state not in {JobState.TAKEN, JobState.ASSIGNED}:
            return True
        return await give_back(ctx, job, why, canceling=canceling)


async def give_back(ctx: Context, job: JobRecord, why: str, *, canceling: bool = False) -> bool:
    """Fail the job in GitLab as ours to fail. False if GitLab could not be told now.

    A job that is being cancelled becomes `canceled` by the same call.
    """
    token = await ctx.ledger.job_token(job.job_id)
    if token is None:
        await ctx.ledger.move_job(job.job_id, JobState.RETURNED, reason=f"{why}; its token is lost")
        return True
    await ctx.assure()
    text = f"\nERROR: Job failed (system failure): FireRunner: {why} (machine {job.machine_id})\n"
    try:
        calls = ctx.gitlab(job.gitlab).jobs
        await calls.append_trace(job.gitlab_job_id, token, job.trace_bytes, text)
        reply = await calls.fail(job.gitlab_job_id, token, reason=SYSTEM_FAILURE)
    except GitLabError as error:
        ctx.log.warning("cannot report the end of a job yet", job=job.job_id, error=str(error))
        return False
    if not reply.accepted and not reply.gone:
        ctx.log.warning("GitLab does not take the end of a job yet", job=job.job_id, trouble=reply.trouble)
        return False
    if reply.gone:
        await ctx.ledger.move_job(
            job.job_id,
            JobState.ENDED,
            reason=f"{why}; GitLab had ended it already",
            gitlab_status=reply.job_status or job.gitlab_status,
        )
        outcome = "ended_elsewhere"
    else:
        status = "canceled" if canceling or job.gitlab_status == "canceling" else "failed"
        await ctx.ledger.move_job(
            job.job_id,
            JobState.RETURNED,
            reason=why,
            gitlab_status=status,
            failure_reason=SYSTEM_FAILURE if status == "failed" else None,
        )
        outcome = SYSTEM_FAILURE
    _tell_gate(ctx, job)
    ctx.post(JobOver(job_id=job.job_id, pool=job.pool, at=ctx.clock()))
    ctx.log.warning("job given back to GitLab", job=job.job_id, name=job.name, reason=why, outcome=outcome)
    return True


async def end(ctx: Context, job: JobRecord, status: str | None, reason: str) -> None:
    """Write down that GitLab has ended the job."""
    async with ctx.locks[f"job-{job.job_id}"]:
        current = await ctx.ledger.job(job.job_id)
        if current is None or current.state in {JobState.ENDED, JobState.RETURNED}:
            return
        try:
            await ctx.ledger.move_job(
                job.job_id, JobState.ENDED, reason=reason, gitlab_status=status, expect=current.state
            )
        except StaleWrite:
            return  # the gate has moved it on, or seen its end itself
        _tell_gate(ctx, current)
        ctx.post(JobOver(job_id=job.job_id, pool=job.pool, at=ctx.clock()))


def _tell_gate(ctx: Context, job: JobRecord) -> None:
    """The gate believes what it knows of a running job for a minute: nothing more is to pass now."""
    if job.machine_id is not None:
        ctx.wake_gate(job.machine_id)
