"""The JSON objects of the REST API, as Rails' `lib/api/entities/ci/` exposes them."""

from __future__ import annotations

from typing import Any

from firerunner.fakes.gitlab.clock import iso
from firerunner.fakes.gitlab.job_payload import USER
from firerunner.fakes.gitlab.model import (
    FINISHED,
    Group,
    Hook,
    Job,
    JobStatus,
    Manager,
    Pipeline,
    Project,
    Runner,
)
from firerunner.fakes.gitlab.repository import AUTHOR_EMAIL, AUTHOR_NAME, COMMIT_DATE
from firerunner.fakes.gitlab.world import World

ONLINE_S = 2 * 3600
STALE_S = 7 * 86400
REST_USER = {
    "id": USER["id"],
    "username": USER["username"],
    "name": USER["name"],
    "state": "active",
    "avatar_url": None,
}


def job_with_project(world: World, job: Job) -> dict[str, Any]:
    """A job of a runner (Rails lib/api/entities/ci/job_basic_with_project.rb)."""
    project = job.project
    return job_json(world, job) | {
        "project": {"id": project.id, "name": project.name, "path_with_namespace": project.path}
    }


def job_json(world: World, job: Job) -> dict[str, Any]:
    """A job of the Jobs API; the only place where its tags are shown."""
    end = job.finished_at or (world.clock() if job.started_at else None)
    shown = {
        "id": job.id,
        "status": job.status.value,
        "stage": job.spec.stage,
        "name": job.name,
        "ref": job.pipeline.ref,
        "tag": job.pipeline.tag,
        "coverage": None,
        "allow_failure": job.spec.allow_failure,
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "erased_at": None,
        "duration": None if job.started_at is None or end is None else end - job.started_at,
        "queued_duration": _queued_s(world, job),
        "user": REST_USER,
        "commit": _commit(job.pipeline),
        "pipeline": pipeline_summary(world, job.pipeline),
        "web_url": f"{world.external_url}/{job.project.path}/-/jobs/{job.id}",
        "project": {"ci_job_token_scope_enabled": False},
        "artifacts": [
            {
                "file_type": artifact.artifact_type,
                "size": artifact.size,
                "filename": artifact.filename,
                "file_format": artifact.artifact_format,
            }
            for artifact in job.artifacts.values()
        ],
        "runner": runner_summary(world, job.runner) if job.runner else None,
        "runner_manager": manager_json(world, job.manager) if job.manager else None,
        "artifacts_expire_at": None,
        "archived": False,
        "source": "api",
        "tag_list": list(job.spec.tags),
    }
    archive = job.artifacts.get("archive")
    if archive:
        shown["artifacts_file"] = {"filename": archive.filename, "size": archive.size}
    if job.status is JobStatus.FAILED:
        shown["failure_reason"] = job.failure_reason
    return shown


def pipeline_summary(world: World, pipeline: Pipeline) -> dict[str, Any]:
    """A pipeline as lists and jobs show it."""
    return {
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": pipeline.project.id,
        "sha": pipeline.sha,
        "ref": pipeline.ref,
        "status": pipeline.status,
        "source": pipeline.source,
        "created_at": iso(pipeline.created_at),
        "updated_at": iso(pipeline.finished_at or pipeline.created_at),
        "web_url": f"{world.external_url}/{pipeline.project.path}/-/pipelines/{pipeline.id}",
    }


def pipeline_json(world: World, pipeline: Pipeline) -> dict[str, Any]:
    """One pipeline."""
    started = [job.started_at for job in pipeline.jobs if job.started_at is not None]
    return {
        **pipeline_summary(world, pipeline),
        "before_sha": pipeline.before_sha,
        "tag": pipeline.tag,
        "yaml_errors": None,
        "user": REST_USER,
        "started_at": iso(min(started, default=None)),
        "finished_at": iso(pipeline.finished_at) if pipeline.status in FINISHED else None,
        "committed_at": None,
        "duration": None,
        "queued_duration": None,
        "coverage": None,
        "detailed_status": {"text": pipeline.status, "label": pipeline.status, "group": pipeline.status},
    }


def project_json(world: World, project: Project) -> dict[str, Any]:
    """One project, in short."""
    return {
        "id": project.id,
        "description": None,
        "name": project.name,
        "name_with_namespace": f"{project.namespace} / {project.name}",
        "path": project.name,
        "path_with_namespace": project.path,
        "created_at": iso(project.created_at),
        "default_branch": project.default_branch,
        "visibility": "private" if project.private else "public",
        "http_url_to_repo": f"{world.external_url}/{project.path}.git",
        "web_url": f"{world.external_url}/{project.path}",
        "namespace": {"id": 21, "full_path": project.namespace, "kind": "group"},
        "jobs_enabled": True,
        "builds_access_level": "enabled",
        "build_timeout": project.timeout_s,
        "ci_default_git_depth": project.git_depth,
        "archived": False,
    }


def runner_summary(world: World, runner: Runner) -> dict[str, Any]:
    """A runner as lists and jobs show it: without its tags."""
    status = contact_status(world, runner.contacted_at)
    return {
        "id": runner.id,
        "description": runner.description,
        "ip_address": None,
        "active": not runner.paused,
        "paused": runner.paused,
        "is_shared": runner.runner_type == "instance_type",
        "runner_type": runner.runner_type,
        "name": "gitlab-runner" if runner.contacted_at else None,
        "online": status == "online",
        "created_at": iso(runner.created_at),
        "status": status,
        "job_execution_status": "active" if _busy(world, runner) else "idle",
    }


def runner_json(world: World, runner: Runner) -> dict[str, Any]:
    """One runner, with tags and limits."""
    project = world.projects.get(runner.project_id) if runner.project_id else None
    newest = max(runner.managers.values(), key=lambda manager: manager.contacted_at, default=None)
    return {
        **runner_summary(world, runner),
        "architecture": newest.architecture if newest else None,
        "platform": newest.platform if newest else None,
        "version": newest.version if newest else None,
        "revision": newest.revision if newest else None,
        "contacted_at": iso(runner.contacted_at),
        "maintenance_note": runner.maintenance_note or None,
        "tag_list": sorted(runner.tags),
        "run_untagged": runner.run_untagged,
        "locked": runner.locked,
        "maximum_timeout": runner.maximum_timeout_s,
        "access_level": "ref_protected" if runner.protected_only else "not_protected",
        "projects": [project_json(world, project)] if project else [],
        "groups": [group_json(world, runner.group)] if runner.group else [],
    }


def group_json(world: World, group: Group) -> dict[str, Any]:
    """One group, in short."""
    return {
        "id": group.id,
        "name": group.path.rpartition("/")[2],
        "full_path": group.path,
        "web_url": f"{world.external_url}/groups/{group.path}",
    }


def manager_json(world: World, manager: Manager) -> dict[str, Any]:
    """One runner manager."""
    return {
        "id": manager.id,
        "system_id": manager.system_id,
        "version": manager.version or None,
        "revision": manager.revision or None,
        "platform": manager.platform or None,
        "architecture": manager.architecture or None,
        "created_at": iso(manager.created_at),
        "contacted_at": iso(manager.contacted_at),
        "ip_address": manager.ip_address or None,
        "status": contact_status(world, manager.contacted_at),
    }


def hook_json(hook: Hook) -> dict[str, Any]:
    """One hook; neither secret is ever shown."""
    return {
        "id": hook.id,
        "url": hook.url,
        ("project_id" if isinstance(hook.owner, Project) else "group_id"): hook.owner.id,
        "created_at": iso(hook.created_at),
        "job_events": hook.job_events,
        "pipeline_events": hook.pipeline_events,
        "push_events": False,
        "enable_ssl_verification": True,
        "token_present": hook.token is not None,
        "signing_token_present": hook.signing_key is not None,
        "alert_status": "executable" if hook.failures < 4 else "temporarily_disabled",
    }


def contact_status(world: World, contacted_at: float | None) -> str:
    """`online`, `offline`, `stale` or `never_contacted`."""
    if contacted_at is None:
        return "never_contacted"
    age_s = world.clock() - contacted_at
    if age_s <= ONLINE_S:
        return "online"
    return "stale" if age_s > STALE_S else "offline"


def _busy(world: World, runner: Runner) -> bool:
    return any(job.runner is runner and job.status is JobStatus.RUNNING for job in world.jobs.values())


def _queued_s(world: World, job: Job) -> float | None:
    if job.queued_at is None:
        return None
    return (job.started_at or job.finished_at or world.clock()) - job.queued_at


def _commit(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "id": pipeline.sha,
        "short_id": pipeline.sha[:8],
        "title": pipeline.message.partition("\n")[0],
        "message": pipeline.message,
        "author_name": AUTHOR_NAME,
        "author_email": AUTHOR_EMAIL,
        "authored_date": COMMIT_DATE,
        "created_at": COMMIT_DATE,
    }
