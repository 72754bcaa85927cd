"""Moves pipelines and jobs on: stages, matching, retries, cancels, and the rules for stuck jobs.

Follows Rails' state machine (`app/models/commit_status.rb`): `drop` and `success` of a job that is
`canceling` make it `canceled`; `cancel` makes a running job `canceling` only where its runner declared
`cancel_gracefully`. Every change is marked in the job's timeline and told to the listeners.
"""

from __future__ import annotations

import secrets
from typing import Any

from firerunner.fakes.gitlab.ci_yaml import CiFile, JobSpec
from firerunner.fakes.gitlab.matching import (
    effective_timeout_s,
    matches,
    missing_dependency,
    missing_feature,
    queue,
    takeable,
)
from firerunner.fakes.gitlab.model import (
    FINISHED,
    ON_RUNNER,
    Job,
    JobStatus,
    Manager,
    Mark,
    Pipeline,
    Project,
    Runner,
)
from firerunner.fakes.gitlab.world import World

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
TOUCH_AFTER_S = 900.0
SCHEDULER_RETRIES = 2
FAILURE_REASONS = (
    "unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure", "runner_system_failure",
    "missing_dependency_failure", "runner_unsupported", "stale_schedule", "job_execution_timeout",
    "archived_failure", "unmet_prerequisites", "scheduler_failure", "data_integrity_failure",
    "forward_deployment_failure", "user_blocked", "project_deleted", "ci_quota_exceeded",
    "pipeline_loop_detected", "no_matching_runner", "trace_size_exceeded", "builds_disabled",
    "environment_creation_failure", "deployment_rejected", "image_pull_failure",
    "runner_provisioning_timeout", "runner_external_dependency_failure", "runner_interrupted",
)  # fmt: skip
"""What this GitLab understands (`features.failure_reasons`); anything else becomes `unknown_failure`."""


def create_pipeline(
    world: World,
    project: Project,
    ci: CiFile,
    *,
    pipeline_id: int,
    ref: str,
    tag: bool,
    sha: str,
    before_sha: str,
    message: str,
    variables: dict[str, str],
    source: str = "api",
) -> Pipeline:
    """Make a pipeline with all its jobs `created`, and start its first stage."""
    iid = sum(1 for other in world.pipelines.values() if other.project is project) + 1
    pipeline = Pipeline(
        id=pipeline_id,
        iid=iid,
        project=project,
        ref=ref,
        tag=tag,
        sha=sha,
        before_sha=before_sha,
        message=message,
        source=source,
        variables=variables,
        file_variables=dict(ci.variables),
        stages=[stage for stage in ci.stages if any(job.stage == stage for job in ci.jobs)],
        created_at=world.clock(),
    )
    world.pipelines[pipeline.id] = pipeline
    for spec in ci.jobs:
        _add_job(world, pipeline, spec)
    advance(world, pipeline)
    return pipeline


def advance(world: World, pipeline: Pipeline) -> None:
    """Enqueue or skip the jobs whose earlier stages have all ended, and work out the pipeline's status."""
    latest = pipeline.latest()
    for index in range(len(pipeline.stages)):
        before = [job for job in latest if job.stage_index < index]
        waiting = [job for job in latest if job.stage_index == index and job.status is JobStatus.CREATED]
        if not all(job.finished for job in before):
            break
        earlier_failed = any(
            job.status in (JobStatus.FAILED, JobStatus.CANCELED) and not job.tolerated for job in before
        )
        for job in waiting:
            wanted = {"always": True, "on_failure": earlier_failed, "on_success": not earlier_failed}[
                job.spec.when
            ]
            if wanted:
                enqueue(world, job)
            else:
                _set(world, job, JobStatus.SKIPPED)
    _set_pipeline_status(world, pipeline)


def enqueue(world: World, job: Job) -> None:
    """Make a job `pending` and tell the runners that could take it (Rails `pick_build!`)."""
    job.queued_at = world.clock()
    _set(world, job, JobStatus.PENDING)
    for runner in world.runners.values():
        if matches(runner, job):
            runner.tick()
    world.changes.ring()


def hand_out(world: World, runner: Runner, manager: Manager, features: dict[str, Any]) -> Job | None:
    """Give the first job in the queue that matches to this runner. Without an await in it, hence atomic."""
    for job in queue(world, runner):
        if not matches(runner, job):
            continue
        job.runner = runner
        if missing_dependency(job):
            drop(world, job, "missing_dependency_failure")
            continue
        if missing_feature(job, features):
            drop(world, job, "runner_unsupported")
            continue
        job.manager = manager
        job.cancel_gracefully = bool(features.get("cancel_gracefully"))
        job.timeout_s = effective_timeout_s(job, runner)
        job.started_at = world.clock()
        job.handed_out += 1
        _set(world, job, JobStatus.RUNNING)
        _set_pipeline_status(world, job.pipeline)
        return job
    return None


def succeed(world: World, job: Job) -> None:
    """End a job as its runner says; `canceled` if a cancel was under way."""
    _finish(world, job, JobStatus.CANCELED if job.status is JobStatus.CANCELING else JobStatus.SUCCESS)


def drop(world: World, job: Job, reason: str | None, exit_code: int | None = None) -> None:
    """Fail a job; `canceled` if a cancel was under way. A retry that its file asks for is a new job."""
    if job.status is JobStatus.CANCELING:
        _finish(world, job, JobStatus.CANCELED)
        return
    job.failure_reason = reason if reason in FAILURE_REASONS else "unknown_failure"
    job.exit_code = exit_code
    again = _auto_retry(job)
    _end(world, job, JobStatus.FAILED)
    if again:
        retry(world, job)
    else:
        advance(world, job.pipeline)


def cancel(world: World, job: Job, *, force: bool = False) -> bool:
    """Cancel a job as `Ci::BuildCancelService` does; False if it cannot be cancelled now."""
    if job.status is JobStatus.CANCELING:
        if force:
            _finish(world, job, JobStatus.CANCELED)
        return force
    if job.finished:
        return False
    if job.status is JobStatus.RUNNING and job.cancel_gracefully:
        _set(world, job, JobStatus.CANCELING)
        _set_pipeline_status(world, job.pipeline)
    else:
        _finish(world, job, JobStatus.CANCELED)
    return True


def retry(world: World, job: Job) -> Job:
    """Put a finished job into the queue again under a new id; skipped later stages get their chance again."""
    job.retried = True
    again = _add_job(world, job.pipeline, job.spec)
    for later in job.pipeline.latest():
        if later.stage_index > job.stage_index and later.status is JobStatus.SKIPPED:
            _set(world, later, JobStatus.CREATED)
    enqueue(world, again)
    _set_pipeline_status(world, job.pipeline)
    return again


def retryable(job: Job) -> bool:
    """Whether a user may retry it: it has run its course, and no newer one has taken its place."""
    return job.status in (JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELED) and not job.retried


def retries_of(job: Job) -> int:
    """How many earlier jobs of this name its pipeline has (`retries_count`)."""
    return sum(1 for other in job.pipeline.jobs if other.retried and other.name == job.name)


def drop_stuck(world: World) -> list[Job]:
    """What GitLab's hourly workers do (`app/services/ci/stuck_builds/`). Returns the jobs that were failed.

    `running` (or `canceling`) without an update for an hour; `pending` for a day, or for an hour with no
    unpaused runner that could take it.
    """
    now = world.clock()
    stuck = [
        job
        for job in list(world.jobs.values())
        if (job.status in ON_RUNNER and now - job.updated_at > HOUR_S)
        or (job.status is JobStatus.PENDING and now - job.updated_at > DAY_S)
        or (job.status is JobStatus.PENDING and now - job.updated_at > HOUR_S and not takeable(world, job))
    ]
    for job in stuck:
        drop(world, job, "stuck_or_timeout_failure")
    return stuck


def touch(world: World, job: Job) -> None:
    """Note a sign of life of the job's runner, at most every 15 minutes (Rails `needs_touch?`)."""
    if world.clock() - job.updated_at > TOUCH_AFTER_S:
        job.updated_at = world.clock()


def _auto_retry(job: Job) -> bool:
    reason = job.failure_reason or "unknown_failure"
    retries = retries_of(job)
    if reason == "scheduler_failure" and not job.spec.retry.max:
        return retries < SCHEDULER_RETRIES
    return job.spec.retry.covers(reason, retries)


def _add_job(world: World, pipeline: Pipeline, spec: JobSpec) -> Job:
    now = world.clock()
    job = Job(
        id=world.new_id("job", 1001),
        spec=spec,
        pipeline=pipeline,
        stage_index=pipeline.stages.index(spec.stage),
        created_at=now,
        token=f"glcbt-64_{secrets.token_urlsafe(15)}",
    )
    pipeline.jobs.append(job)
    world.jobs[job.id] = job
    _set(world, job, JobStatus.CREATED)
    return job


def _end(world: World, job: Job, status: JobStatus) -> None:
    job.finished_at = world.clock()
    _set(world, job, status)


def _finish(world: World, job: Job, status: JobStatus) -> None:
    _end(world, job, status)
    advance(world, job.pipeline)


def _set(world: World, job: Job, status: JobStatus) -> None:
    job.status = status
    job.updated_at = world.clock()
    job.timeline.append(Mark(status.value, job.updated_at))
    for listener in world.job_listeners:
        listener(job)
    world.changes.ring()


def _set_pipeline_status(world: World, pipeline: Pipeline) -> None:
    pipeline.status = _composite(pipeline.latest())
    if pipeline.status in FINISHED and pipeline.finished_at is None:
        pipeline.finished_at = world.clock()
    elif pipeline.status not in FINISHED:
        pipeline.finished_at = None
    world.changes.ring()


def _composite(jobs: list[Job]) -> str:
    """The status of many jobs, in GitLab's order of precedence (`Gitlab::Ci::Status::Composite`)."""
    bad = (JobStatus.FAILED, JobStatus.CANCELED)
    statuses = {JobStatus.SUCCESS if job.status in bad and job.tolerated else job.status for job in jobs}
    if statuses <= {JobStatus.SKIPPED}:
        return "skipped"
    if statuses <= {JobStatus.SUCCESS, JobStatus.SKIPPED}:
        return "success"
    if statuses <= {JobStatus.CREATED}:
        return "created"
    if JobStatus.CANCELING in statuses:
        return "canceling"
    if statuses <= FINISHED:
        return "canceled" if JobStatus.CANCELED in statuses else "failed"
    started = statuses & (FINISHED | {JobStatus.RUNNING})
    return "running" if started else "pending"
