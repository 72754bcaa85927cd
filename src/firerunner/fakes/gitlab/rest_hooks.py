"""The REST API for webhooks of projects and groups; secrets go in and are never shown.

Docs pages "Project webhooks" and "Group webhooks"; hooks of groups are not in GitLab's free edition.
"""

from __future__ import annotations

import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from firerunner.fakes.gitlab.answers import Refused, json_body, parameter_error, required
from firerunner.fakes.gitlab.model import Group, Hook, Project
from firerunner.fakes.gitlab.pages import listing
from firerunner.fakes.gitlab.presenters import hook_json
from firerunner.fakes.gitlab.rest_access import READ, WRITE, Access, not_found
from firerunner.fakes.gitlab.webhooks import signing_key
from firerunner.fakes.gitlab.world import World


class HooksApi:
    """Endpoints that take a personal access token."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._access = Access(world)

    def routes(self) -> list[Route]:
        """The routes below `/api/v4`."""
        return [
            route
            for hooks in ("/projects/{project}/hooks", "/groups/{group}/hooks")
            for route in (
                Route(hooks, self.list, methods=["GET"]),
                Route(hooks, self.create, methods=["POST"]),
                Route(f"{hooks}/{{hook_id:int}}", self.show, methods=["GET"]),
                Route(f"{hooks}/{{hook_id:int}}", self.update, methods=["PUT"]),
                Route(f"{hooks}/{{hook_id:int}}", self.delete, methods=["DELETE"]),
                Route(f"{hooks}/{{hook_id:int}}/test/{{trigger}}", self.test, methods=["POST"]),
            )
        ]

    async def list(self, request: Request) -> Response:
        """A project's or group's hooks."""
        self._access.allow(request, READ)
        owner = self._owner(request)
        found = [hook for hook in self._world.hooks.values() if hook.owner is owner]
        return listing(request, self._world.external_url, found, self._shown)

    async def create(self, request: Request) -> Response:
        """201."""
        self._access.allow(request, WRITE)
        owner = self._owner(request)
        body = await json_body(request)
        hook = Hook(
            self._world.new_id("hook", 501),
            owner,
            str(required(body, "url")),
            self._world.clock(),
            job_events=False,
        )
        refusal = self._apply(hook, body)
        if refusal:
            return refusal
        self._world.hooks[hook.id] = hook
        return JSONResponse(self._shown(hook), 201)

    async def show(self, request: Request) -> Response:
        """One hook."""
        self._access.allow(request, READ)
        return JSONResponse(self._shown(self._hook(request)))

    async def update(self, request: Request) -> Response:
        """Change what is given."""
        self._access.allow(request, WRITE)
        hook = self._hook(request)
        return self._apply(hook, await json_body(request)) or JSONResponse(self._shown(hook))

    async def delete(self, request: Request) -> Response:
        """204."""
        self._access.allow(request, WRITE)
        del self._world.hooks[self._hook(request).id]
        return Response(status_code=204)

    async def test(self, request: Request) -> Response:
        """201 if the receiver takes it; 422 with why not (Rails `lib/api/hooks/trigger_test.rb`)."""
        self._access.allow(request, WRITE)
        hook = self._hook(request)
        theirs = [job for job in self._world.jobs.values() if hook.hears(job.project)]
        if self._world.send_test is None or not theirs:
            return JSONResponse({"message": "Ensure the project has CI jobs."}, 422)
        wrong = await self._world.send_test(hook, request.path_params["trigger"], theirs[-1])
        return JSONResponse({"message": wrong or "201 Created"}, 422 if wrong else 201)

    def _shown(self, hook: Hook) -> dict[str, Any]:
        said = hook_json(hook)
        if not self._world.behaviour.signs_hooks:
            del said["signing_token_present"]
        return said

    def _hook(self, request: Request) -> Hook:
        hook = self._world.hooks.get(request.path_params["hook_id"])
        if hook is None or hook.owner is not self._owner(request):
            raise not_found("Hook")
        return hook

    def _owner(self, request: Request) -> Project | Group:
        owner = self._access.owner(request)
        if isinstance(owner, Group) and not self._world.behaviour.premium:
            raise Refused(JSONResponse({"error": "404 Not Found"}, 404))
        return owner

    def _apply(self, hook: Hook, body: dict[str, Any]) -> Response | None:
        if body.get("signing_token") and self._world.behaviour.signs_hooks:
            try:
                hook.signing_key = signing_key(str(body["signing_token"]))
            except (ValueError, binascii.Error):
                return parameter_error("signing_token is invalid")
        if "url" in body:
            hook.url = str(body["url"])
        if "token" in body:
            hook.token = str(body["token"]) or None
        for name in ("job_events", "pipeline_events"):
            if name in body:
                setattr(hook, name, str(body[name]).lower() in ("true", "1"))
        return None
