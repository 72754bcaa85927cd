"""The JSON of a 201 answer to `POST /jobs/request`.

Fields and order follow gitlab-runner's `common/spec/spec.go`; which variables a job gets and with which flags
follows Rails (`app/models/ci/build.rb`, `lib/gitlab/ci/variables/builder.rb`).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from firerunner.fakes.gitlab.clock import iso
from firerunner.fakes.gitlab.matching import dependencies_of
from firerunner.fakes.gitlab.model import Job, JobStatus
from firerunner.fakes.gitlab.repository import AUTHOR_EMAIL, AUTHOR_NAME, COMMIT_DATE
from firerunner.fakes.gitlab.scheduler import FAILURE_REASONS
from firerunner.fakes.gitlab.world import World

JOB_USER = "gitlab-ci-token"
USER = {"id": 3, "name": "Sample User", "username": "sample", "email": "sample@example.com"}
INSTANCE_UUID = "5a1d8e3e-0000-4000-8000-000000000001"


def payload(world: World, job: Job) -> dict[str, Any]:
    """What the runner gets."""
    project, pipeline = job.project, job.pipeline
    depth = int(_author_variables(job).get("GIT_DEPTH", project.git_depth))
    return {
        "id": job.id,
        "token": job.token,
        "allow_git_fetch": True,
        "job_info": {
            "id": job.id,
            "name": job.name,
            "stage": job.spec.stage,
            "pipeline_id": pipeline.id,
            "project_id": project.id,
            "project_name": project.name,
            "project_full_path": project.path,
            "namespace_id": 21,
            "root_namespace_id": 21,
            "organization_id": 1,
            "instance_id": INSTANCE_UUID,
            "instance_uuid": INSTANCE_UUID,
            "user_id": USER["id"],
            "scoped_user_id": None,
            "time_in_queue_seconds": _seconds(job.queued_at, job.started_at),
            "project_jobs_running_on_instance_runners_count": _running_count(world, job),
            "queue_size": _pending_count(world),
            "queue_depth": 1,
        },
        "git_info": {
            "repo_url": repo_url(world, job),
            "repo_object_format": "sha1",
            "ref": pipeline.ref,
            "sha": pipeline.sha,
            "before_sha": pipeline.before_sha,
            "ref_type": "tag" if pipeline.tag else "branch",
            "refspecs": _refspecs(job, depth),
            "depth": depth,
            "protected": pipeline.ref in project.protected_refs,
        },
        "runner_info": {"timeout": job.timeout_s, "runner_session_url": None, "uuid": INSTANCE_UUID},
        "inputs": [],
        "variables": variables(world, job),
        "steps": _steps(job),
        "image": job.spec.image,
        "services": list(job.spec.services),
        "artifacts": _artifacts(job),
        "cache": [],
        "credentials": [],
        "dependencies": _dependencies(job),
        "features": {
            "trace_sections": True,
            "token_mask_prefixes": ["glpat-", "glrt-", "glcbt-"],
            "failure_reasons": list(FAILURE_REASONS),
        },
        "hooks": [],
    }


def repo_url(world: World, job: Job) -> str:
    """Where to clone from, with the job's own credentials in it, at the external address."""
    parts = urlsplit(world.external_url)
    return urlunsplit(
        parts._replace(
            netloc=f"{JOB_USER}:{job.token}@{parts.netloc}", path=f"{parts.path}/{job.project.path}.git"
        )
    )


def variables(world: World, job: Job) -> list[dict[str, Any]]:
    """Predefined variables first, then project, pipeline and job ones: the runner lets later ones win."""
    listed = [_variable(key, value) for key, value in _predefined(world, job).items()]
    secret = ("CI_JOB_TOKEN", "CI_REGISTRY_PASSWORD", "CI_DEPENDENCY_PROXY_PASSWORD")
    listed += [_variable(key, job.token, public=False, masked=True) for key in secret]
    listed.append(_variable("CI_REPOSITORY_URL", repo_url(world, job), public=False))
    listed += [_variable(key, value) for key, value in _author_variables(job).items()]
    return listed


def _predefined(world: World, job: Job) -> dict[str, str]:
    project, pipeline, url = job.project, job.pipeline, world.external_url
    parts = urlsplit(url)
    runner = job.runner
    major, minor, patch = world.behaviour.version.split(".")
    values = {
        "CI_PIPELINE_ID": pipeline.id,
        "CI_PIPELINE_IID": pipeline.iid,
        "CI_PIPELINE_URL": f"{url}/{project.path}/-/pipelines/{pipeline.id}",
        "CI_PIPELINE_SOURCE": pipeline.source,
        "CI_PIPELINE_CREATED_AT": iso(pipeline.created_at),
        "CI_JOB_ID": job.id,
        "CI_JOB_URL": f"{url}/{project.path}/-/jobs/{job.id}",
        "CI_JOB_STARTED_AT": iso(job.started_at),
        "CI_REGISTRY_USER": JOB_USER,
        "CI_DEPENDENCY_PROXY_USER": JOB_USER,
        "CI_JOB_NAME": job.name,
        "CI_JOB_NAME_SLUG": _slug(job.name),
        "CI_JOB_STAGE": job.spec.stage,
        "CI_JOB_TIMEOUT": job.timeout_s,
        "CI_NODE_TOTAL": job.spec.node_total,
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_SERVER_URL": url,
        "CI_SERVER_HOST": parts.hostname or "",
        "CI_SERVER_FQDN": parts.netloc,
        "CI_SERVER_PORT": parts.port or (443 if parts.scheme == "https" else 80),
        "CI_SERVER_PROTOCOL": parts.scheme,
        "CI_SERVER_NAME": "GitLab",
        "CI_SERVER_VERSION": world.behaviour.version,
        "CI_SERVER_VERSION_MAJOR": major,
        "CI_SERVER_VERSION_MINOR": minor,
        "CI_SERVER_VERSION_PATCH": patch,
        "CI_SERVER_REVISION": "0123456789a",
        "CI_API_V4_URL": f"{url}/api/v4",
        "CI_API_GRAPHQL_URL": f"{url}/api/graphql",
        "CI_PROJECT_ID": project.id,
        "CI_PROJECT_NAME": project.name,
        "CI_PROJECT_TITLE": project.name,
        "CI_PROJECT_PATH": project.path,
        "CI_PROJECT_PATH_SLUG": _slug(project.path),
        "CI_PROJECT_NAMESPACE": project.namespace,
        "CI_PROJECT_ROOT_NAMESPACE": project.namespace.partition("/")[0],
        "CI_PROJECT_URL": f"{url}/{project.path}",
        "CI_PROJECT_VISIBILITY": "private" if project.private else "public",
        "CI_DEFAULT_BRANCH": project.default_branch,
        "CI_CONFIG_PATH": ".gitlab-ci.yml",
        "CI_COMMIT_SHA": pipeline.sha,
        "CI_COMMIT_SHORT_SHA": pipeline.sha[:8],
        "CI_COMMIT_BEFORE_SHA": pipeline.before_sha,
        "CI_COMMIT_REF_NAME": pipeline.ref,
        "CI_COMMIT_REF_SLUG": _slug(pipeline.ref),
        "CI_COMMIT_TAG" if pipeline.tag else "CI_COMMIT_BRANCH": pipeline.ref,
        "CI_COMMIT_MESSAGE": pipeline.message,
        "CI_COMMIT_TITLE": pipeline.message.partition("\n")[0],
        "CI_COMMIT_DESCRIPTION": pipeline.message.partition("\n")[2].strip(),
        "CI_COMMIT_AUTHOR": f"{AUTHOR_NAME} <{AUTHOR_EMAIL}>",
        "CI_COMMIT_TIMESTAMP": COMMIT_DATE,
        "CI_COMMIT_REF_PROTECTED": str(pipeline.ref in project.protected_refs).lower(),
        "CI_RUNNER_ID": runner.id if runner else "",
        "CI_RUNNER_DESCRIPTION": runner.description if runner else "",
        "CI_RUNNER_TAGS": str(sorted(runner.tags)).replace("'", '"') if runner else "[]",
        "GITLAB_USER_ID": USER["id"],
        "GITLAB_USER_NAME": USER["name"],
        "GITLAB_USER_LOGIN": USER["username"],
        "GITLAB_USER_EMAIL": USER["email"],
    }
    if job.spec.node_index is not None:
        values["CI_NODE_INDEX"] = job.spec.node_index
    return {key: str(value) for key, value in values.items()}


def _author_variables(job: Job) -> dict[str, str]:
    """Weakest first: the file's global ones, the job's, the project's, those given with the pipeline."""
    pipeline = job.pipeline
    return {**pipeline.file_variables, **job.spec.variables, **job.project.variables, **pipeline.variables}


def _variable(key: str, value: str, *, public: bool = True, masked: bool = False) -> dict[str, Any]:
    return {"key": key, "value": value, "public": public, "file": False, "masked": masked, "raw": False}


def _steps(job: Job) -> list[dict[str, Any]]:
    common = {"timeout": job.timeout_s}
    script = [*job.spec.before_script, *job.spec.script]
    steps = [{"name": "script", "script": script, **common, "when": "on_success", "allow_failure": False}]
    if job.spec.after_script:
        after = list(job.spec.after_script)
        steps.append(
            {"name": "after_script", "script": after, **common, "when": "always", "allow_failure": True}
        )
    return steps


def _artifacts(job: Job) -> list[dict[str, Any]]:
    spec = job.spec.artifacts
    if spec is None:
        return []
    listed: list[dict[str, Any]] = []
    if spec.has_archive:
        listed.append(
            {
                "name": spec.name,
                "untracked": spec.untracked,
                "paths": list(spec.paths),
                "exclude": list(spec.exclude),
                "when": spec.when,
                "expire_in": spec.expire_in,
                "artifact_type": "archive",
                "artifact_format": "zip",
            }
        )
    listed += [
        {
            "name": f"{kind}.xml" if kind == "junit" else kind,
            "untracked": False,
            "paths": list(paths),
            "exclude": [],
            "when": "always",
            "expire_in": spec.expire_in,
            "artifact_type": kind,
            "artifact_format": "gzip",
        }
        for kind, paths in spec.reports.items()
    ]
    return listed


def _dependencies(job: Job) -> list[dict[str, Any]]:
    """Earlier jobs; the token of each is the *running* job's own.

    Source: Rails `lib/api/entities/ci/job_request/dependency.rb`.
    """
    listed: list[dict[str, Any]] = []
    for other in dependencies_of(job):
        if other.status is JobStatus.SKIPPED:
            continue
        entry: dict[str, Any] = {"id": other.id, "name": other.name, "token": job.token}
        archive = other.artifacts.get("archive")
        if archive:
            entry["artifacts_file"] = {"filename": archive.filename, "size": archive.size}
        listed.append(entry)
    return listed


def _refspecs(job: Job, depth: int) -> list[str]:
    pipeline = job.pipeline
    listed = [f"+refs/pipelines/{pipeline.id}:refs/pipelines/{pipeline.id}"]
    if pipeline.tag:
        listed.append(
            f"+refs/tags/{pipeline.ref}:refs/tags/{pipeline.ref}" if depth else "+refs/tags/*:refs/tags/*"
        )
    elif depth:
        listed.append(f"+refs/heads/{pipeline.ref}:refs/remotes/origin/{pipeline.ref}")
    else:
        listed += ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    return listed


def _slug(text: str) -> str:
    return "".join(char if char.isalnum() else "-" for char in text.lower())[:63].strip("-")


def _seconds(start: float | None, end: float | None) -> float:
    return max(0.0, (end or 0.0) - (start or 0.0))


def _running_count(world: World, job: Job) -> str:
    """A string, and "+Inf" beyond a thousand, as Rails gives it."""
    running = sum(
        1
        for other in world.jobs.values()
        if other is not job and other.project is job.project and other.status is JobStatus.RUNNING
    )
    return str(running) if running < 1000 else "+Inf"


def _pending_count(world: World) -> int:
    return sum(1 for other in world.jobs.values() if other.status is JobStatus.PENDING)
