"""The REST API for project webhooks; secrets go in and are never shown."""

from __future__ import annotations

import binascii
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from firerunner.fakes.gitlab.answers import json_body, parameter_error, required
from firerunner.fakes.gitlab.model import Hook
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
        hooks = "/projects/{project}/hooks"
        return [
            Route(hooks, self.list, methods=["GET"]),
            Route(hooks, self.create, methods=["POST"]),
            Route(f"{hooks}/{{hook_id:int}}", self.show, methods=["GET"]),
            Route(f"{hooks}/{{hook_id:int}}", self.update, methods=["PUT"]),
            Route(f"{hooks}/{{hook_id:int}}", self.delete, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """A project's hooks."""
        self._access.allow(request, READ)
        project = self._access.project(request)
        found = [hook for hook in self._world.hooks.values() if hook.project_id == project.id]
        return listing(request, self._world.external_url, found, hook_json)

    async def create(self, request: Request) -> Response:
        """201."""
        self._access.allow(request, WRITE)
        project = self._access.project(request)
        body = await json_body(request)
        hook = Hook(
            self._world.new_id("hook", 501),
            project.id,
            str(required(body, "url")),
            self._world.clock(),
            job_events=False,
        )
        refusal = _apply(hook, body)
        if refusal:
            return refusal
        self._world.hooks[hook.id] = hook
        return JSONResponse(hook_json(hook), 201)

    async def show(self, request: Request) -> Response:
        """One hook."""
        self._access.allow(request, READ)
        return JSONResponse(hook_json(self._hook(request)))

    async def update(self, request: Request) -> Response:
        """Change what is given."""
        self._access.allow(request, WRITE)
        hook = self._hook(request)
        return _apply(hook, await json_body(request)) or JSONResponse(hook_json(hook))

    async def delete(self, request: Request) -> Response:
        """204."""
        self._access.allow(request, WRITE)
        del self._world.hooks[self._hook(request).id]
        return Response(status_code=204)

    def _hook(self, request: Request) -> Hook:
        hook = self._world.hooks.get(request.path_params["hook_id"])
        if hook is None or hook.project_id != self._access.project(request).id:
            raise not_found("Hook")
        return hook


def _apply(hook: Hook, body: dict[str, Any]) -> Response | None:
    if body.get("signing_token"):
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
