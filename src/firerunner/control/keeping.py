"""The observer of jobs that no runner speaks for: keeps them alive in GitLab and sees a cancel.

A job is `running` in GitLab from the 201 on, and fails after an hour without a word. Where the
guest's own runner is silent, because it has not come so far or hangs, `PUT state=running` is said
here, and its answer shows a cancel (reference: gitlab.md 3.5, 3.6).
"""

from __future__ import annotations

import asyncio

from firerunner.control.asking import fail_machine
from firerunner.control.context import Context
from firerunner.control.settling import end, give_back_undelivered
from firerunner.errors import GitLabError
from firerunner.ledger import JobRecord, JobState

KEEP_EVERY_S = 30.0
LOOK_EVERY_S = 5.0
CANCEL_S = 360.0
"""`after_script` may run for five minutes (gitlab-runner's default), and a minute for the rest."""
DELIVERED = frozenset({JobState.DELIVERED, JobState.RUNNING})


async def keep_jobs(ctx: Context) -> None:
    """Run for ever: keep each open job that nobody has spoken about for 30 seconds."""
    kept_at: dict[int, float] = {}
    canceling_since: dict[int, float] = {}
    while True:
        with ctx.outlived("keeping jobs alive"):
            jobs = await ctx.ledger.jobs()
            kept_at = {job.job_id: kept_at.get(job.job_id, job.taken_at) for job in jobs}
            for job in jobs:
                heard_at = ctx.heard_at(job.machine_id) if job.machine_id else 0.0
                if ctx.clock() - max(kept_at[job.job_id], heard_at) >= KEEP_EVERY_S:
                    kept_at[job.job_id] = ctx.clock()
                    with ctx.outlived("keeping a job alive"):
                        if await keep(ctx, job):
                            await _patiently_cancel(ctx, job, canceling_since)
            canceling_since = {key: at for key, at in canceling_since.items() if key in kept_at}
        await asyncio.sleep(LOOK_EVERY_S)


async def _patiently_cancel(ctx: Context, job: JobRecord, since: dict[int, float]) -> None:
    """A runner that is told of a cancel runs `after_script` and ends; one that hangs is not waited for."""
    if ctx.clock() - since.setdefault(job.job_id, ctx.clock()) > CANCEL_S and job.machine_id:
        await fail_machine(ctx, job.machine_id, "the job was cancelled and its runner did not end it")


async def keep(ctx: Context, job: JobRecord) -> bool:
    """Say once that the job is alive, and end it here if GitLab has ended it, or cancelled it unseen.

    True if the job is being cancelled and its runner should know.
    """
    token = await ctx.ledger.job_token(job.job_id)
    if token is None:
        return False
    try:
        reply = await ctx.gitlab(job.gitlab).jobs.keep(job.gitlab_job_id, token)
    except GitLabError as error:
        ctx.log.warning("cannot keep a job alive now", job=job.job_id, error=str(error))
        return False
    if reply.over:
        await end(ctx, job, reply.job_status, "GitLab had ended it, and its runner did not say so")
    elif reply.job_status == "canceling":
        if job.state in DELIVERED:
            return True
        await give_back_undelivered(ctx, job.job_id, "cancelled before its machine was ready", canceling=True)
    return False
