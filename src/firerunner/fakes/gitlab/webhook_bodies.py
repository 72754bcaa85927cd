"""The bodies of webhooks, as Rails' `lib/gitlab/data_builder/` makes them. They carry no job tags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from firerunner.fakes.gitlab import scheduler
from firerunner.fakes.gitlab.clock import iso, spaced_utc
from firerunner.fakes.gitlab.job_payload import USER
from firerunner.fakes.gitlab.model import Job, JobStatus, Project, Runner
from firerunner.fakes.gitlab.repository import AUTHOR_EMAIL, AUTHOR_NAME
from firerunner.fakes.gitlab.world import World

HOOK_USER = {
    "id": USER["id"],
    "name": USER["name"],
    "username": USER["username"],
    "avatar_url": None,
    "email": "[REDACTED]",
}


def job_body(world: World, job: Job) -> dict[str, Any]:
    """A Job Hook's body (`object_kind: build`)."""
    pipeline, project = job.pipeline, job.project
    time = _time_format(world)
    return {
        "object_kind": "build",
        "ref": pipeline.ref,
        "tag": pipeline.tag,
        "before_sha": pipeline.before_sha,
        "sha": pipeline.sha,
        "retries_count": scheduler.retries_of(job),
        "build_id": job.id,
        "build_name": job.name,
        "build_stage": job.spec.stage,
        "build_status": job.status.value,
        "build_created_at": time(job.created_at),
        "build_started_at": time(job.started_at),
        "build_finished_at": time(job.finished_at),
        "build_created_at_iso": iso(job.created_at),
        "build_started_at_iso": iso(job.started_at),
        "build_finished_at_iso": iso(job.finished_at),
        "build_duration": _between(job.started_at, job.finished_at),
        "build_queued_duration": _between(job.queued_at, job.started_at or world.clock()),
        "build_allow_failure": job.spec.allow_failure,
        "build_failure_reason": job.failure_reason or "unknown_failure",
        "pipeline_id": pipeline.id,
        "runner": _runner(job.runner),
        "project_id": project.id,
        "project_name": f"{project.namespace} / {project.name}",
        "user": HOOK_USER,
        "commit": {
            "id": pipeline.id,
            "name": None,
            "sha": pipeline.sha,
            "message": pipeline.message,
            "author_name": AUTHOR_NAME,
            "author_email": AUTHOR_EMAIL,
            "author_url": f"mailto:{AUTHOR_EMAIL}",
            "status": pipeline.status,
            "duration": None,
            "started_at": None,
            "finished_at": time(pipeline.finished_at),
        },
        "repository": {
            "name": project.name,
            "url": _ssh_url(project),
            "description": None,
            "homepage": f"{world.external_url}/{project.path}",
            "git_http_url": f"{world.external_url}/{project.path}.git",
            "git_ssh_url": _ssh_url(project),
            "visibility_level": _visibility(project),
        },
        "project": _project(world, project),
        "environment": None,
    }


def pipeline_body(world: World, job: Job) -> dict[str, Any]:
    """A Pipeline Hook's body (`object_kind: pipeline`); its builds carry no tags either."""
    pipeline, project = job.pipeline, job.project
    return {
        "object_kind": "pipeline",
        "object_attributes": {
            "id": pipeline.id,
            "iid": pipeline.iid,
            "name": None,
            "ref": pipeline.ref,
            "tag": pipeline.tag,
            "sha": pipeline.sha,
            "before_sha": pipeline.before_sha,
            "source": pipeline.source,
            "status": pipeline.status,
            "detailed_status": pipeline.status,
            "stages": pipeline.stages,
            "created_at": spaced_utc(pipeline.created_at),
            "finished_at": spaced_utc(pipeline.finished_at),
            "duration": None,
            "queued_duration": None,
            "protected_ref": pipeline.ref in project.protected_refs,
            "variables": [{"key": key, "value": value} for key, value in pipeline.variables.items()],
            "url": f"{world.external_url}/{project.path}/-/pipelines/{pipeline.id}",
        },
        "merge_request": None,
        "user": HOOK_USER,
        "project": _project(world, project),
        "commit": {
            "id": pipeline.sha,
            "message": pipeline.message,
            "title": pipeline.message.partition("\n")[0],
        },
        "builds": [_build(other) for other in pipeline.latest()],
    }


def _build(job: Job) -> dict[str, Any]:
    archive = job.artifacts.get("archive")
    return {
        "id": job.id,
        "stage": job.spec.stage,
        "name": job.name,
        "status": job.status.value,
        "created_at": spaced_utc(job.created_at),
        "started_at": spaced_utc(job.started_at),
        "finished_at": spaced_utc(job.finished_at),
        "duration": _between(job.started_at, job.finished_at),
        "queued_duration": _between(job.queued_at, job.started_at),
        "failure_reason": job.failure_reason if job.status is JobStatus.FAILED else None,
        "when": job.spec.when,
        "manual": False,
        "allow_failure": job.spec.allow_failure,
        "user": HOOK_USER,
        "runner": _runner(job.runner),
        "artifacts_file": {
            "filename": archive.filename if archive else None,
            "size": archive.size if archive else None,
        },
        "environment": None,
    }


def _runner(runner: Runner | None) -> dict[str, Any] | None:
    if runner is None:
        return None
    return {
        "id": runner.id,
        "description": runner.description,
        "runner_type": runner.runner_type,
        "active": not runner.paused,
        "is_shared": runner.runner_type == "instance_type",
        "tags": sorted(runner.tags),
    }


def _project(world: World, project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "description": None,
        "web_url": f"{world.external_url}/{project.path}",
        "avatar_url": None,
        "git_ssh_url": _ssh_url(project),
        "git_http_url": f"{world.external_url}/{project.path}.git",
        "namespace": project.namespace,
        "visibility_level": _visibility(project),
        "path_with_namespace": project.path,
        "default_branch": project.default_branch,
        "ci_config_path": None,
    }


def _time_format(world: World) -> Callable[[float | None], str | None]:
    return iso if world.behaviour.hook_time_format == "iso" else spaced_utc


def _ssh_url(project: Project) -> str:
    return f"git@gitlab.example.com:{project.path}.git"


def _visibility(project: Project) -> int:
    return 0 if project.private else 20


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(end - start, 6)
