"""The actor that looks for jobs which GitLab handed out and nobody has: their answer was lost on the way.

Between GitLab's 201 and our commit lies a window that no runner manager can close: a crash in it, or a
connection that breaks, loses the job's token. GitLab shows such a job as running, with the `system_id` that
asked; without us it would hang until GitLab's stuck check. With an API token it is looked for, cancelled and,
as the pool says, retried. (Docs pages "Runners API": list jobs processed by a runner; "Jobs API".)
"""

from __future__ import annotations

from firerunner.control.context import Context, LostAsk
from firerunner.errors import CallRefused, GitLabError
from firerunner.gitlab import RestClient, RunnersJob

LOOK_UP = "look up lost job"
CANCELING = "lost job cancelled"
_OPEN = frozenset({"running", "canceling"})
SURELY_S = 60.0
"""So long after the ask GitLab may still hand a job to it: the longest long poll is 50 s."""


async def remember(ctx: Context, machine_id: str, pool: str, gitlab: str, asked_at: float, why: str) -> None:
    """A job may be lost. It is looked for by `look_up`."""
    told = {"pool": pool, "gitlab": gitlab, "asked_at": asked_at, "why": why}
    seq = await ctx.ledger.intend(LOOK_UP, machine_id, told)
    ctx.lost[machine_id] = LostAsk(seq, machine_id, pool, gitlab, asked_at)


async def restore(ctx: Context) -> None:
    """Those that a controller before this one has not found yet."""
    for entry in await ctx.ledger.unfinished():
        if entry.event == LOOK_UP:
            told = entry.detail
            ctx.lost[entry.subject] = LostAsk(
                entry.seq, entry.subject, told["pool"], told["gitlab"], told["asked_at"]
            )


async def look_up(ctx: Context, machine_id: str) -> bool:
    """Look once, while no ask of this machine is in flight. False if it has to be looked again.

    Raises GitLabError if GitLab could not be asked, and LedgerError.
    """
    lost = ctx.lost.get(machine_id)
    if lost is None:
        return True
    pool = ctx.pools.get(lost.pool)
    rest = ctx.rest(lost.gitlab) if pool is not None else None
    if pool is None or rest is None:
        why = "the pool is gone" if pool is None else "there is no api_token"
        return await _done(ctx, lost, f"not looked for: {why}; see the runner's jobs in GitLab")
    surely = ctx.clock() - lost.asked_at > SURELY_S
    runner_id = await rest.runner_of(pool.token)
    if runner_id is None:
        return await _done(ctx, lost, "not looked for: GitLab refuses the runner token")
    handed_out = await rest.jobs_of(runner_id, machine_id)
    if any(machine == machine_id for machine, _ in await ctx.ledger.unread_answers()):
        return False  # the answer has come after all
    for job in handed_out:
        if not await ctx.ledger.knows_job(lost.gitlab, job.id):
            outcome = await _end(ctx, rest, machine_id, job, retry=pool.lost_jobs == "retry")
            return await _done(ctx, lost, outcome)
    return await _done(ctx, lost, "GitLab had handed out nothing") if surely else False


async def _end(ctx: Context, rest: RestClient, machine_id: str, job: RunnersJob, *, retry: bool) -> str:
    """Cancel the job in GitLab, and have it run again. Goes on where a lost answer or a crash has left it."""
    status = job.status
    if status in _OPEN:
        await ctx.ledger.note("machine", machine_id, CANCELING, {"job": job.id, "project": job.project_id})
        ctx.log.error("a job whose hand-over was lost is found", job=job.id, project=job.project_id)
        # `canceling` waits for its runner to say so, and that is nobody.
        status = await rest.cancel_job(job.project_id, job.id, force=status == "canceling")
        if status == "canceling":
            status = await rest.cancel_job(job.project_id, job.id, force=True)
    outcome = f"job {job.id} of project {job.project_id}: {status}"
    ours = await ctx.ledger.last_journal_of(machine_id, CANCELING)
    if retry and status == "canceled" and ours:
        try:
            outcome += f", again as job {await rest.retry_job(job.project_id, job.id)}"
        except CallRefused as error:  # it has been, by us or by somebody else
            outcome += f", not retried: {error.message}"
    return outcome


async def _done(ctx: Context, lost: LostAsk, outcome: str) -> bool:
    await ctx.ledger.done(lost.seq, outcome)
    ctx.lost.pop(lost.machine_id, None)
    ctx.log.info("an ask without an answer is settled", machine=lost.machine_id, outcome=outcome)
    return True


async def looked_up(ctx: Context, machine_id: str) -> bool:
    """As `look_up`, for who tries again later in any case."""
    try:
        return await look_up(ctx, machine_id)
    except GitLabError as error:
        ctx.log.warning("a lost job cannot be looked for now", machine=machine_id, error=str(error))
        return False
