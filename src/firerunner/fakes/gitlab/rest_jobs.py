"""The REST API for projects, pipelines and jobs (docs pages "Jobs API" and "Pipelines API")."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from firerunner.fakes.gitlab import scheduler
from firerunner.fakes.gitlab.answers import Refused, json_body, mapping, message, parameter_error, required
from firerunner.fakes.gitlab.artifacts_api import file_answer
from firerunner.fakes.gitlab.ci_yaml import CiYamlError
from firerunner.fakes.gitlab.model import Job, Pipeline
from firerunner.fakes.gitlab.pages import listing
from firerunner.fakes.gitlab.pipelines import RefMissing, start_pipeline
from firerunner.fakes.gitlab.presenters import job_json, pipeline_json, pipeline_summary, project_json
from firerunner.fakes.gitlab.rest_access import READ, WRITE, Access
from firerunner.fakes.gitlab.world import World


class JobsApi:
    """Endpoints that take a personal access token."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._access = Access(world)

    def routes(self) -> list[Route]:
        """The routes below `/api/v4`."""
        project = "/projects/{project}"
        job = f"{project}/jobs/{{job_id:int}}"
        pipeline = f"{project}/pipelines/{{pipeline_id:int}}"
        return [
            Route("/version", self.version, methods=["GET"]),
            Route("/personal_access_tokens/self", self.token, methods=["GET"]),
            Route("/projects", self.projects, methods=["GET"]),
            Route(project, self.project, methods=["GET"]),
            Route(f"{project}/jobs", self.jobs, methods=["GET"]),
            Route(job, self.job, methods=["GET"]),
            Route(f"{job}/cancel", self.cancel, methods=["POST"]),
            Route(f"{job}/retry", self.retry, methods=["POST"]),
            Route(f"{job}/trace", self.trace, methods=["GET"]),
            Route(f"{job}/artifacts", self.artifacts, methods=["GET"]),
            Route(f"{project}/pipeline", self.create_pipeline, methods=["POST"]),
            Route(f"{project}/pipelines", self.pipelines, methods=["GET"]),
            Route(pipeline, self.pipeline, methods=["GET"]),
            Route(f"{pipeline}/jobs", self.pipeline_jobs, methods=["GET"]),
            Route(f"{pipeline}/cancel", self.cancel_pipeline, methods=["POST"]),
        ]

    async def version(self, request: Request) -> Response:
        """Version and revision."""
        self._access.allow(request, READ)
        return JSONResponse({"version": self._world.behaviour.version, "revision": "0123456789a"})

    async def token(self, request: Request) -> Response:
        """The token itself, which any scope may see (docs page "Personal access tokens API")."""
        scopes = self._access.granted(request)
        said = {"id": 901, "name": "fake", "revoked": False, "active": True, "expires_at": None}
        return JSONResponse(said | {"scopes": sorted(scopes)})

    async def projects(self, request: Request) -> Response:
        """All projects."""
        self._access.allow(request, READ)
        return self._list(request, list(self._world.projects.values()), project_json)

    async def project(self, request: Request) -> Response:
        """One project."""
        self._access.allow(request, READ)
        return JSONResponse(project_json(self._world, self._access.project(request)))

    async def jobs(self, request: Request) -> Response:
        """A project's jobs, by `scope[]`; retried ones too."""
        self._access.allow(request, READ)
        project = self._access.project(request)
        scope = _scope(request)
        found = [job for job in self._world.jobs.values() if job.project is project and _in(job, scope)]
        return self._list(request, found, job_json)

    async def pipeline_jobs(self, request: Request) -> Response:
        """A pipeline's jobs; retried ones with `include_retried=true`."""
        self._access.allow(request, READ)
        pipeline = self._access.pipeline(request)
        retried = request.query_params.get("include_retried") == "true"
        scope = _scope(request)
        found = [job for job in (pipeline.jobs if retried else pipeline.latest()) if _in(job, scope)]
        return self._list(request, found, job_json)

    async def job(self, request: Request) -> Response:
        """One job."""
        self._access.allow(request, READ)
        return self._job(self._access.job(request))

    async def cancel(self, request: Request) -> Response:
        """201 with the job, whether or not there was anything to cancel."""
        self._access.allow(request, WRITE)
        job = self._access.job(request)
        body = await json_body(request)
        force = str(body.get("force", request.query_params.get("force", ""))).lower() == "true"
        scheduler.cancel(self._world, job, force=force)
        return self._job(job, 201)

    async def retry(self, request: Request) -> Response:
        """201 with a new job; 403 while the old one can still end."""
        self._access.allow(request, WRITE)
        job = self._access.job(request)
        if not scheduler.retryable(job):
            return message(403, "Job is not retryable")
        return self._job(scheduler.retry(self._world, job), 201)

    async def trace(self, request: Request) -> Response:
        """The log as plain text."""
        self._access.allow(request, READ)
        return PlainTextResponse(bytes(self._access.job(request).trace))

    async def artifacts(self, request: Request) -> Response:
        """The archive."""
        self._access.allow(request, READ)
        archive = self._access.job(request).artifacts.get("archive")
        return file_answer(archive) if archive else message(404)

    async def create_pipeline(self, request: Request) -> Response:
        """201; 400 with GitLab's words for a missing ref or a file that is not valid."""
        self._access.allow(request, WRITE)
        project = self._access.project(request)
        body = await json_body(request)
        ref = str(required({**request.query_params, **body}, "ref"))
        variables = _variables(body.get("variables", []))
        try:
            pipeline = await start_pipeline(self._world, project, ref, variables)
        except RefMissing:
            return JSONResponse({"message": {"base": ["Reference not found"]}}, 400)
        except CiYamlError as error:
            return JSONResponse({"message": {"base": [str(error)]}}, 400)
        return JSONResponse(pipeline_json(self._world, pipeline), 201)

    async def pipelines(self, request: Request) -> Response:
        """A project's pipelines."""
        self._access.allow(request, READ)
        project = self._access.project(request)
        found = [pipeline for pipeline in self._world.pipelines.values() if pipeline.project is project]
        return self._list(request, found, pipeline_summary)

    async def pipeline(self, request: Request) -> Response:
        """One pipeline."""
        self._access.allow(request, READ)
        return JSONResponse(pipeline_json(self._world, self._access.pipeline(request)))

    async def cancel_pipeline(self, request: Request) -> Response:
        """Cancel all that can be cancelled."""
        self._access.allow(request, WRITE)
        pipeline = self._access.pipeline(request)
        cancel_all(self._world, pipeline)
        return JSONResponse(pipeline_json(self._world, pipeline))

    def _job(self, job: Job, status: int = 200) -> Response:
        return JSONResponse(job_json(self._world, job), status)

    def _list(self, request: Request, found: list[Any], show: Any) -> Response:
        return listing(request, self._world.external_url, found, lambda record: show(self._world, record))


def cancel_all(world: World, pipeline: Pipeline) -> None:
    """Cancel every job of a pipeline, later stages first, so that none of them starts meanwhile."""
    for job in reversed(pipeline.latest()):
        scheduler.cancel(world, job)


def _variables(given: Any) -> dict[str, str]:
    pairs = [mapping(item) for item in given] if isinstance(given, list) else [{}]
    if not all("key" in pair and "value" in pair for pair in pairs):
        raise Refused(parameter_error("variables is invalid"))
    return {str(pair["key"]): str(pair["value"]) for pair in pairs}


def _scope(request: Request) -> set[str]:
    return {value for key, value in request.query_params.multi_items() if key in ("scope", "scope[]")}


def _in(job: Job, scope: set[str]) -> bool:
    return not scope or job.status.value in scope
