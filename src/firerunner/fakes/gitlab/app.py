"""Puts the fake's endpoints together into one ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from firerunner.fakes.gitlab.answers import Refused
from firerunner.fakes.gitlab.artifacts_api import ArtifactsApi
from firerunner.fakes.gitlab.git_http import GitHttp
from firerunner.fakes.gitlab.lfs_api import LfsApi
from firerunner.fakes.gitlab.rest_hooks import HooksApi
from firerunner.fakes.gitlab.rest_jobs import JobsApi
from firerunner.fakes.gitlab.rest_runners import RunnersApi
from firerunner.fakes.gitlab.runner_api import RunnerApi
from firerunner.fakes.gitlab.world import World

API = "/api/v4"
PATH = "fake_gitlab.path"

Handler = Callable[[Request], Awaitable[Response]]


def build_app(world: World, extra_routes: list[Route]) -> ASGIApp:
    """The application, without misbehaviour."""
    runner_api = RunnerApi(world)
    artifacts = ArtifactsApi(world, runner_api)
    api: list[BaseRoute] = [
        *runner_api.routes(),
        *artifacts.routes(),
        *JobsApi(world).routes(),
        *RunnersApi(world).routes(),
        *HooksApi(world).routes(),
        Route("/{rest:path}", _unknown, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
    ]
    routes: list[BaseRoute] = [
        *extra_routes,
        Mount(API, routes=api),
        *artifacts.storage_routes(),
        *LfsApi(world).routes(),
        *GitHttp(world).routes(),
    ]
    handlers: dict[Any, Any] = {Refused: _refused, ClientDisconnect: _gone}
    return _Front(Starlette(routes=routes, exception_handlers=handlers), world)


async def _refused(_: Request, refusal: Exception) -> Response:
    if isinstance(refusal, Refused):
        return refusal.response
    raise refusal


async def _gone(_: Request, __: Exception) -> Response:
    """Nobody is left to read it."""
    return Response(status_code=499)


async def _unknown(_: Request) -> Response:
    return JSONResponse({"error": "404 Not Found"}, 404)


class _Front:
    """Routes by the undecoded path, because a project may be named `group%2Fname` in one segment.

    Also takes off the path of the external URL, for an instance below a sub-path.
    """

    def __init__(self, app: ASGIApp, world: World) -> None:
        self._app = app
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw: str = scope["raw_path"].decode("latin-1").partition("?")[0]
            base = urlsplit(self._world.external_url).path
            if base and not raw.startswith(f"{base}/"):
                await PlainTextResponse("404 page not found", 404)(scope, receive, send)
                return
            raw = raw.removeprefix(base)
            path = unquote(raw.replace("%2F", "%252F").replace("%2f", "%252F"))
            scope = {**scope, "path": path, "raw_path": raw.encode("latin-1"), PATH: raw}
        await self._app(scope, receive, send)
