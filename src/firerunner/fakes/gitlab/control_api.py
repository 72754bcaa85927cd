"""The handle over HTTP, under `/-/fake/`, when the fake runs as a program of its own.

It has no authentication: it exists only when asked for, for a demo on loopback.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from firerunner.fakes.gitlab import scheduler
from firerunner.fakes.gitlab.answers import json_body, required
from firerunner.fakes.gitlab.ci_yaml import CiYamlError
from firerunner.fakes.gitlab.model import Job, Pipeline, Project
from firerunner.fakes.gitlab.pipelines import RefMissing
from firerunner.fakes.gitlab.presenters import (
    hook_json,
    job_json,
    manager_json,
    pipeline_json,
    project_json,
    runner_json,
)
from firerunner.fakes.gitlab.repository import GitFailed
from firerunner.fakes.gitlab.rest_access import not_found

if TYPE_CHECKING:
    from firerunner.fakes.gitlab.server import FakeGitLab

Handler = Callable[[Request], Awaitable[Response]]

PREFIX = "/-/fake"
WAIT_S = 30.0
WAIT_MAX_S = 300.0


class ControlApi:
    """What the handle can do, for another process."""

    def __init__(self, gitlab: FakeGitLab) -> None:
        self._gitlab = gitlab

    def routes(self) -> list[Route]:
        """The routes, from the root."""
        job = "/jobs/{job_id:int}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/state", self.state),
            ("POST", "/projects", self.add_project),
            ("POST", "/runners", self.add_runner),
            ("POST", "/hooks", self.add_hook),
            ("POST", "/hooks/drop", self.drop_hooks),
            ("POST", "/pipelines", self.run_pipeline),
            ("GET", "/pipelines/{pipeline_id:int}", self.pipeline),
            ("GET", job, self.job),
            ("GET", f"{job}/wait", self.wait),
            ("POST", f"{job}/cancel", self.cancel),
            ("POST", f"{job}/retry", self.retry),
            ("GET", f"{job}/trace", self.trace),
            ("GET", f"{job}/artifact", self.artifact),
            ("POST", "/rules", self.misbehave),
            ("DELETE", "/rules", self.behave),
            ("PATCH", "/behaviour", self.turn_knobs),
        ]
        return [
            Route(PREFIX + path, _explained(handler), methods=[method]) for method, path, handler in table
        ]

    async def state(self, _: Request) -> Response:
        """Counts and lists: jobs, managers, deliveries."""
        gitlab = self._gitlab
        world = gitlab.world
        return JSONResponse(
            {
                "url": gitlab.url,
                "external_url": gitlab.external_url,
                "api_token": gitlab.api_token,
                "projects": [project_json(world, project) for project in world.projects.values()],
                "jobs": [self._job(job) for job in world.jobs.values()],
                "managers": [manager_json(world, manager) for manager in world.managers()],
                "managers_made": world.managers_made,
                "deliveries": [
                    {
                        "hook": one.hook_id,
                        "event": one.event,
                        "job": one.subject,
                        "status": one.status,
                        "answer": one.answer,
                        "outcome": one.outcome,
                        "error": one.error,
                    }
                    for one in gitlab.hooks.deliveries
                ],
            }
        )

    async def add_project(self, request: Request) -> Response:
        """`{path, files: {name: text} | source: folder, branch?, private?, variables?}`."""
        body = await json_body(request)
        files: Any = Path(body["source"]) if "source" in body else body.get("files", {})
        optional = {key: body[key] for key in ("branch", "private", "variables") if key in body}
        project = await self._gitlab.add_project(str(required(body, "path")), files, **optional)
        return JSONResponse(project_json(self._gitlab.world, project), 201)

    async def add_runner(self, request: Request) -> Response:
        """`{tags?, run_untagged?, project?, description?, ...}`; the answer holds the token."""
        body = await json_body(request)
        project = self._project(body.pop("project")) if body.get("project") else None
        token = self._gitlab.add_runner(project=project, **body)
        return JSONResponse(
            {**runner_json(self._gitlab.world, self._gitlab.runner(token)), "token": token}, 201
        )

    async def add_hook(self, request: Request) -> Response:
        """`{project, url, token?, signing_token?, job_events?, pipeline_events?}`."""
        body = await json_body(request)
        project = self._project(required(body, "project"))
        body.pop("project")
        return JSONResponse(hook_json(self._gitlab.add_hook(project, **body)), 201)

    async def drop_hooks(self, request: Request) -> Response:
        """`{job}`: lose the webhooks about jobs of that name."""
        self._gitlab.drop_hooks_for(str(required(await json_body(request), "job")))
        return Response(status_code=204)

    async def run_pipeline(self, request: Request) -> Response:
        """`{project, ref?, variables?: {key: value}}`; the answer lists the jobs."""
        body = await json_body(request)
        project = self._project(required(body, "project"))
        try:
            pipeline = await self._gitlab.run_pipeline(project, body.get("ref"), body.get("variables"))
        except (RefMissing, CiYamlError) as error:
            return JSONResponse({"message": str(error)}, 400)
        return JSONResponse(self._pipeline(pipeline), 201)

    async def pipeline(self, request: Request) -> Response:
        """A pipeline with all its jobs, retried ones too."""
        found = self._gitlab.world.pipelines.get(request.path_params["pipeline_id"])
        if found is None:
            raise not_found("Pipeline")
        return JSONResponse(self._pipeline(found))

    async def job(self, request: Request) -> Response:
        """A job as the Jobs API shows it, with its timeline, how often it was handed out, its log's size."""
        return JSONResponse(self._job(self._find(request)))

    async def wait(self, request: Request) -> Response:
        """Answer when the job has one of `status` (a,b; none: has ended), or 408 after `timeout_s`."""
        job = self._find(request)
        wanted = [status for status in request.query_params.get("status", "").split(",") if status]
        timeout_s = min(float(request.query_params.get("timeout_s", WAIT_S)), WAIT_MAX_S)
        try:
            await self._gitlab.wait_for_job(job, *wanted, timeout_s=timeout_s)
        except TimeoutError:
            return JSONResponse(self._job(job), 408)
        return JSONResponse(self._job(job))

    async def cancel(self, request: Request) -> Response:
        """Cancel as a user does; `?force=true` ends a `canceling` one."""
        job = self._find(request)
        self._gitlab.cancel(job, force=request.query_params.get("force") == "true")
        return JSONResponse(self._job(job), 201)

    async def retry(self, request: Request) -> Response:
        """The new job."""
        job = self._find(request)
        if not scheduler.retryable(job):
            return JSONResponse({"message": "the job has not ended, or was retried already"}, 409)
        return JSONResponse(self._job(self._gitlab.retry(job)), 201)

    async def trace(self, request: Request) -> Response:
        """The log so far."""
        return PlainTextResponse(bytes(self._find(request).trace))

    async def artifact(self, request: Request) -> Response:
        """The archive."""
        job = self._find(request)
        if "archive" not in job.artifacts:
            raise not_found("Artifact")
        return Response(self._gitlab.artifact(job), media_type="application/zip")

    async def misbehave(self, request: Request) -> Response:
        """The fields of `misbehave.Rule`."""
        body = await json_body(request)
        path = str(required(body, "path"))
        body.pop("path")
        self._gitlab.misbehave(path, **body)
        return Response(status_code=204)

    async def behave(self, _: Request) -> Response:
        """Drop all rules."""
        self._gitlab.behave()
        return Response(status_code=204)

    async def turn_knobs(self, request: Request) -> Response:
        """The fields of `settings.Behaviour`."""
        for name, value in (await json_body(request)).items():
            if not hasattr(self._gitlab.behaviour, name):
                return JSONResponse({"message": f"no such setting: {name}"}, 400)
            setattr(self._gitlab.behaviour, name, value)
        return Response(status_code=204)

    def _project(self, key: Any) -> Project:
        project = self._gitlab.world.project(key)
        if project is None:
            raise not_found("Project")
        return project

    def _find(self, request: Request) -> Job:
        job = self._gitlab.world.jobs.get(request.path_params["job_id"])
        if job is None:
            raise not_found("Job")
        return job

    def _pipeline(self, pipeline: Pipeline) -> dict[str, Any]:
        return {
            **pipeline_json(self._gitlab.world, pipeline),
            "jobs": [self._job(job) for job in pipeline.jobs],
        }

    def _job(self, job: Job) -> dict[str, Any]:
        return {
            **job_json(self._gitlab.world, job),
            "failure_reason": job.failure_reason,
            "exit_code": job.exit_code,
            "retried": job.retried,
            "retries_count": scheduler.retries_of(job),
            "handed_out": job.handed_out,
            "trace_bytes": len(job.trace),
            "trace_checksum_ok": job.trace_checksum_ok,
            "last_line": _last_line(job),
            "timeline": [[mark.status, mark.at] for mark in job.timeline],
            "first_trace_at": job.first_trace_at,
            "pending_to_running_s": job.pending_to_running_s,
            "running_to_first_output_s": job.running_to_first_output_s,
        }


def _explained(handler: Handler) -> Handler:
    """Say what was wrong with the parameters, instead of a bare 500."""

    @functools.wraps(handler)
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except (TypeError, ValueError, LookupError, OSError, GitFailed, re.error) as error:
            return JSONResponse({"message": f"{type(error).__name__}: {error}"}, 400)

    return guarded


def _last_line(job: Job) -> str:
    lines = bytes(job.trace[-4096:]).decode(errors="replace").splitlines()
    return next((line.rpartition("\r")[2] for line in reversed(lines) if line.strip()), "")
