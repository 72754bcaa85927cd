"""The REST API for runners (docs page "Runners API"; Rails `lib/api/user_runners.rb`)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from firerunner.fakes.gitlab.answers import Refused, integer, json_body, parameter_error, required
from firerunner.fakes.gitlab.matching import serves
from firerunner.fakes.gitlab.model import Runner
from firerunner.fakes.gitlab.pages import listing
from firerunner.fakes.gitlab.presenters import (
    contact_status,
    group_json,
    job_with_project,
    manager_json,
    runner_json,
    runner_summary,
)
from firerunner.fakes.gitlab.rest_access import CREATE_RUNNER, MANAGE_RUNNER, READ, Access
from firerunner.fakes.gitlab.world import World

RUNNER_TYPES = frozenset({"instance_type", "group_type", "project_type"})
NOTE_LIMIT = 1024
NOT_ALLOWED = "Insufficient permissions"
"""Rails `app/services/ci/runners/create_runner_service.rb`."""
TIMEOUT_MIN_S = 600


class RunnersApi:
    """Endpoints that take a personal access token."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._access = Access(world)

    def routes(self) -> list[Route]:
        """The routes below `/api/v4`."""
        runner = "/runners/{runner_id:int}"
        return [
            Route("/user/runners", self.create, methods=["POST"]),
            Route("/runners", self.runners, methods=["GET"]),
            Route("/runners/all", self.all_runners, methods=["GET"]),
            Route("/projects/{project}/runners", self.project_runners, methods=["GET"]),
            Route("/groups/{group}", self.group, methods=["GET"]),
            Route("/groups/{group}/runners", self.group_runners, methods=["GET"]),
            Route(runner, self.runner, methods=["GET"]),
            Route(runner, self.update, methods=["PUT"]),
            Route(runner, self.delete, methods=["DELETE"]),
            Route(f"{runner}/managers", self.managers, methods=["GET"]),
            Route(f"{runner}/jobs", self.jobs, methods=["GET"]),
            Route(f"{runner}/reset_authentication_token", self.reset_token, methods=["POST"]),
        ]

    async def create(self, request: Request) -> Response:
        """201 with the token, shown this once; 400 for bad parameters or at the limit; 403 for an instance's
        runner without being an administrator."""
        self._access.allow(request, CREATE_RUNNER)
        body = await json_body(request)
        runner_type = str(required(body, "runner_type"))
        if runner_type not in RUNNER_TYPES:
            return parameter_error("runner_type does not have a valid value")
        if runner_type == "instance_type":
            self._access.require_administrator(request, NOT_ALLOWED)
        project_id = integer(body, "project_id") if runner_type == "project_type" else None
        group = self._world.group(integer(body, "group_id")) if runner_type == "group_type" else None
        missing = (runner_type == "group_type" and group is None) or (
            project_id is not None and project_id not in self._world.projects
        )
        if missing:
            return JSONResponse({"message": f"403 Forbidden - {NOT_ALLOWED}"}, 403)
        values = settings_of(body)
        if not values["tags"] and not values["run_untagged"]:
            return _invalid("tags_list", "can not be empty when runner is not allowed to pick untagged jobs")
        limit = self._world.behaviour.runner_limit
        if limit is not None and len(self._world.runners) >= limit:
            return _invalid(
                "base",
                f"Maximum number of ci registered {runner_type.partition('_')[0]} runners ({limit}) exceeded",
            )
        runner = self._world.new_runner(runner_type=runner_type, project_id=project_id, group=group, **values)
        return JSONResponse({"id": runner.id, "token": runner.token, "token_expires_at": None}, 201)

    async def runners(self, request: Request) -> Response:
        """All runners, by `type`, `status`, `paused`, `tag_list`."""
        self._access.allow(request, READ | MANAGE_RUNNER)
        found = [runner for runner in self._world.runners.values() if self._asked_for(request, runner)]
        return self._list(request, found, runner_summary)

    async def all_runners(self, request: Request) -> Response:
        """The same, for administrators only."""
        self._access.allow(request, READ | MANAGE_RUNNER)
        self._access.require_administrator(request)
        return await self.runners(request)

    async def group(self, request: Request) -> Response:
        """One group."""
        self._access.allow(request, READ)
        return JSONResponse(group_json(self._world, self._access.group(request)))

    async def group_runners(self, request: Request) -> Response:
        """The runners of a group and those of the groups above it, and the instance's."""
        self._access.allow(request, READ | MANAGE_RUNNER)
        group = self._access.group(request)
        serving = [
            runner
            for runner in self._world.runners.values()
            if runner.runner_type == "instance_type"
            or (runner.group and f"{group.path}/".startswith(f"{runner.group.path}/"))
        ]
        return self._list(request, [r for r in serving if self._asked_for(request, r)], runner_summary)

    async def project_runners(self, request: Request) -> Response:
        """The runners that serve a project."""
        self._access.allow(request, READ | MANAGE_RUNNER)
        project = self._access.project(request)
        serving = [runner for runner in self._world.runners.values() if serves(runner, project)]
        return self._list(request, [r for r in serving if self._asked_for(request, r)], runner_summary)

    async def runner(self, request: Request) -> Response:
        """One runner."""
        self._access.allow(request, READ | MANAGE_RUNNER)
        return JSONResponse(runner_json(self._world, self._access.runner(request)))

    async def update(self, request: Request) -> Response:
        """Change what is given; waiting asks are told."""
        self._access.allow(request, MANAGE_RUNNER)
        runner = self._access.runner(request)
        body = await json_body(request)
        given = settings_of(body)
        present = {
            "tags": "tag_list",
            "protected_only": "access_level",
            "maximum_timeout_s": "maximum_timeout",
        }
        for name, value in given.items():
            if present.get(name, name) in body:
                setattr(runner, name, value)
        runner.tick()
        self._world.changes.ring()
        return JSONResponse(runner_json(self._world, runner))

    async def delete(self, request: Request) -> Response:
        """204; 404 the second time."""
        self._access.allow(request, MANAGE_RUNNER)
        self._world.forget_runner(self._access.runner(request))
        return Response(status_code=204)

    async def managers(self, request: Request) -> Response:
        """The runner's managers."""
        self._access.allow(request, READ | MANAGE_RUNNER)
        runner = self._access.runner(request)
        wanted = request.query_params.get("system_id")
        found = [manager for manager in runner.managers.values() if wanted in (None, manager.system_id)]
        return self._list(request, found, manager_json)

    async def jobs(self, request: Request) -> Response:
        """The runner's jobs, by `status` and `system_id`."""
        self._access.allow(request, READ | MANAGE_RUNNER)
        runner = self._access.runner(request)
        status, system_id = request.query_params.get("status"), request.query_params.get("system_id")
        found = [
            job
            for job in self._world.jobs.values()
            if job.runner is runner
            and status in (None, job.status.value)
            and system_id in (None, job.manager.system_id if job.manager else "")
        ]
        return self._list(request, found, job_with_project)

    async def reset_token(self, request: Request) -> Response:
        """201 with a new token; the old one is refused from now on."""
        self._access.allow(request, MANAGE_RUNNER)
        runner = self._access.runner(request)
        runner.token = self._world.new_runner_token()
        return JSONResponse({"token": runner.token, "token_expires_at": None}, 201)

    def _asked_for(self, request: Request, runner: Runner) -> bool:
        query = request.query_params
        tags = {tag for tag in query.get("tag_list", "").split(",") if tag}
        return (
            query.get("type") in (None, runner.runner_type)
            and query.get("status") in (None, contact_status(self._world, runner.contacted_at))
            and query.get("paused") in (None, str(runner.paused).lower())
            and tags <= runner.tags
        )

    def _list(self, request: Request, found: list[Any], show: Any) -> Response:
        return listing(request, self._world.external_url, found, lambda record: show(self._world, record))


def settings_of(body: dict[str, Any]) -> dict[str, Any]:
    """A runner's settings as GitLab takes them; raises `Refused` with a 400."""
    tags = body.get("tag_list", [])
    if not isinstance(tags, str) and not (
        isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    ):
        raise Refused(parameter_error("tag_list is invalid"))
    note = str(body.get("maintenance_note", ""))
    timeout = integer(body, "maximum_timeout") if body.get("maximum_timeout") is not None else None
    access = body.get("access_level", "not_protected")
    if access not in ("not_protected", "ref_protected"):
        raise Refused(parameter_error("access_level does not have a valid value"))
    if len(note) > NOTE_LIMIT:
        raise Refused(_invalid("maintenance_note", f"is too long (maximum is {NOTE_LIMIT} characters)"))
    if timeout is not None and timeout < TIMEOUT_MIN_S:
        raise Refused(_invalid("maximum_timeout", "needs to be at least 10 minutes"))
    return {
        "description": str(body.get("description", "")),
        "maintenance_note": note,
        "tags": frozenset(tags.split(",") if isinstance(tags, str) else tags) - {""},
        "run_untagged": _bool(body.get("run_untagged", True)),
        "paused": _bool(body.get("paused", False)),
        "locked": _bool(body.get("locked", False)),
        "protected_only": access == "ref_protected",
        "maximum_timeout_s": timeout,
    }


def _bool(value: Any) -> bool:
    return str(value).lower() in ("true", "1")


def _invalid(field: str, text: str) -> Response:
    return JSONResponse({"message": {field: [text]}}, 400)
