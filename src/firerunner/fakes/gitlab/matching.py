"""Which runner may take which job, in which order, and what a job needs of it. Changes nothing.

Follows Rails `app/services/ci/queue/build_queue_service.rb` and `Ci::Build::RUNNER_FEATURES`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from firerunner.fakes.gitlab.model import Job, JobStatus, Project, Runner
from firerunner.fakes.gitlab.world import World


def matches(runner: Runner, job: Job) -> bool:
    """Whether this runner may take this job, paused or not."""
    tags = set(job.spec.tags)
    return (
        (tags <= runner.tags)
        and (bool(tags) or runner.run_untagged)
        and (not runner.protected_only or job.pipeline.ref in job.project.protected_refs)
        and serves(runner, job.project)
    )


def serves(runner: Runner, project: Project) -> bool:
    """Whether the runner is the project's own, of a group above it, or the instance's."""
    if runner.group is not None:
        return runner.group.owns(project)
    return runner.project_id in {None, project.id}


def missing_feature(job: Job, features: dict[str, Any]) -> str | None:
    """The first feature that the job needs and the runner lacks (Rails `Ci::Build::RUNNER_FEATURES`).

    Only those that a file of our subset can ask for; the others are for merge requests, releases and secrets.
    """
    artifacts = job.spec.artifacts
    needed = {
        "upload_multiple_artifacts": bool(artifacts and artifacts.reports),
        "artifacts_exclude": bool(artifacts and artifacts.exclude),
        "return_exit_code": bool(job.spec.allowed_exit_codes),
    }
    return next((name for name, wanted in needed.items() if wanted and not features.get(name)), None)


def dependencies_of(job: Job) -> list[Job]:
    """The jobs of earlier stages whose artifacts this one downloads."""
    earlier = [other for other in job.pipeline.latest() if other.stage_index < job.stage_index]
    wanted = job.spec.dependencies
    if wanted is None:
        return earlier
    return [other for other in earlier if other.name in wanted or other.name.partition(" ")[0] in wanted]


def queue(world: World, runner: Runner) -> list[Job]:
    """Pending jobs, oldest first; for instance runners, projects with the fewest running jobs go first."""
    pending = [job for job in world.jobs.values() if job.status is JobStatus.PENDING]
    if runner.runner_type != "instance_type":
        return sorted(pending, key=lambda job: job.id)
    running = Counter(job.project.id for job in world.jobs.values() if job.status is JobStatus.RUNNING)
    return sorted(pending, key=lambda job: (running[job.project.id], job.id))


def takeable(world: World, job: Job) -> bool:
    """Whether any runner that is not paused could take it."""
    return any(matches(runner, job) and not runner.paused for runner in world.runners.values())


def missing_dependency(job: Job) -> bool:
    """An explicit dependency that has not succeeded: its artifacts cannot be there."""
    return job.spec.dependencies is not None and any(
        not other.finished or (other.status is JobStatus.SKIPPED) for other in dependencies_of(job)
    )


def effective_timeout_s(job: Job, runner: Runner) -> int:
    """The job's own limit or the project's, never more than the runner's."""
    own = job.spec.timeout_s or job.project.timeout_s
    return min(own, runner.maximum_timeout_s or own)
