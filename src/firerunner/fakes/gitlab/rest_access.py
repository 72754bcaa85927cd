"""Who may use the REST API: personal access tokens with scopes, and the projects that a path names."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from firerunner.fakes.gitlab.answers import Refused
from firerunner.fakes.gitlab.model import Group, Job, Pipeline, Project, Runner
from firerunner.fakes.gitlab.world import World

READ = frozenset({"api", "read_api"})
WRITE = frozenset({"api"})
CREATE_RUNNER = frozenset({"api", "create_runner"})
MANAGE_RUNNER = frozenset({"api", "manage_runner"})


def not_found(what: str) -> Refused:
    """`404 Project Not Found` and the like."""
    return Refused(JSONResponse({"message": f"404 {what} Not Found"}, 404))


class Access:
    """Looks up what a request names, after it has shown a token that may see it."""

    def __init__(self, world: World) -> None:
        self.world = world

    def allow(self, request: Request, scopes: frozenset[str]) -> None:
        """401 without a valid token, 403 `insufficient_scope` with the wrong one."""
        if not self.granted(request) & scopes:
            raise Refused(_insufficient(scopes))

    def granted(self, request: Request) -> frozenset[str]:
        """The scopes of the request's token; 401 without a valid one."""
        granted = self.world.api_tokens.get(_token(request))
        if granted is None:
            raise Refused(JSONResponse({"message": "401 Unauthorized"}, 401))
        return granted

    def require_administrator(self, request: Request, why: str = "") -> None:
        """403 for everybody else."""
        if _token(request) not in self.world.administrators:
            raise Refused(JSONResponse({"message": " - ".join(filter(None, ("403 Forbidden", why)))}, 403))

    def project(self, request: Request) -> Project:
        """The project of the path, by id or by URL-encoded full path."""
        project = self.world.project(unquote(request.path_params["project"]))
        if project is None:
            raise not_found("Project")
        return project

    def group(self, request: Request) -> Group:
        """The group of the path, by id or by URL-encoded full path."""
        group = self.world.group(unquote(request.path_params["group"]))
        if group is None:
            raise not_found("Group")
        return group

    def owner(self, request: Request) -> Project | Group:
        """The project or group of the path."""
        return self.group(request) if "group" in request.path_params else self.project(request)

    def job(self, request: Request) -> Job:
        """The job of the path, which must belong to the project of the path."""
        job = self.world.jobs.get(request.path_params["job_id"])
        if job is None or job.project is not self.project(request):
            raise not_found("Job")
        return job

    def pipeline(self, request: Request) -> Pipeline:
        """The pipeline of the path, likewise."""
        pipeline = self.world.pipelines.get(request.path_params["pipeline_id"])
        if pipeline is None or pipeline.project is not self.project(request):
            raise not_found("Pipeline")
        return pipeline

    def runner(self, request: Request) -> Runner:
        """The runner of the path."""
        runner = self.world.runners.get(request.path_params["runner_id"])
        if runner is None:
            raise not_found("Runner")
        return runner


def _token(request: Request) -> str:
    bearer = request.headers.get("authorization", "")
    return request.headers.get("private-token") or bearer.removeprefix("Bearer ")


def _insufficient(scopes: frozenset[str]) -> Response:
    body: dict[str, Any] = {
        "error": "insufficient_scope",
        "error_description": "The request requires higher privileges than provided by the access token.",
        "scope": " ".join(sorted(scopes)),
    }
    return JSONResponse(body, 403)
