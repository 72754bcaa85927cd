"""The observer of jobs that no runner speaks for: keeps them alive in GitLab and sees a cancel.

A job is `running` in GitLab from the 201 on, and fails after an hour without a word. Where the
guest's own runner is silent, because it has not come so far or hangs, `PUT state=running` is said
here, and its answer shows a cancel (reference: gitlab.md 3.5, 3.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from firerunner.control.context import Context
from firerunner.control.failing import fail_machine
from firerunner.control.settling import end, give_back_undelivered
from firerunner.errors import GitLabError
from firerunner.ledger import JobRecord, JobState

KEEP_EVERY_S = 30.0
LOOK_EVERY_S = 5.0
CANCEL_S = 360.0
"""`after_script` may run for five minutes (gitlab-runner's default), and a minute for the rest."""
DELIVERED = frozenset({JobState.DELIVERED, JobState.RUNNING})


async def keep_jobs(ctx: Context) -> None:
    """Run for ever: keep each open job that nobody has spoken about for 30 seconds.

    Each GitLab has a round of its own, so that one that hangs does not have another's jobs taken for stuck.
    """
    kept_at: dict[int, float] = {}
    canceling_since: dict[int, float] = {}
    rounds: dict[str, asyncio.Task[None]] = {}
    try:
        while True:
            for gitlab in [name for name, task in rounds.items() if task.done()]:
                rounds.pop(gitlab).result()
            with ctx.outlived("keeping jobs alive"):
                jobs = await ctx.ledger.jobs()
                kept_at = {job.job_id: kept_at.get(job.job_id, job.taken_at) for job in jobs}
                for gone in canceling_since.keys() - kept_at.keys():
                    del canceling_since[gone]
                for gitlab in {job.gitlab for job in jobs} - rounds.keys():
                    due = [job for job in jobs if job.gitlab == gitlab and _is_due(ctx, job, kept_at)]
                    kept_at |= {job.job_id: ctx.clock() for job in due}
                    rounds[gitlab] = asyncio.create_task(_round(ctx, due, canceling_since))
            await asyncio.sleep(LOOK_EVERY_S)
    finally:
        for task in rounds.values():
            task.cancel()
        await asyncio.gather(*rounds.values(), return_exceptions=True)


def _is_due(ctx: Context, job: JobRecord, kept_at: Mapping[int, float]) -> bool:
    heard_at = ctx.heard_at(job.machine_id) if job.machine_id else 0.0
    return ctx.clock() - max(kept_at[job.job_id], heard_at) >= KEEP_EVERY_S


async def _round(ctx: Context, due: Collection[JobRecord], canceling_since: dict[int, float]) -> None:
    """Raises NotLeader."""
    for job in due:
        with ctx.outlived("keeping a job alive"):
            if await keep(ctx, job):
                await _patiently_cancel(ctx, job, canceling_since)


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
