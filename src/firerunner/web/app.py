"""The web application: `/webhook`, `/health`, `/ready`, `/metrics`, the API `/api/v1`, the dashboard `/`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field
from starlette.types import ASGIApp, Receive, Scope, Send

from firerunner import __version__
from firerunner.serving.headers import with_security_headers
from firerunner.telemetry import Metrics
from firerunner.web.api import PREFIX
from firerunner.web.dashboard import Dashboard

_ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Readiness(BaseModel):
    """Whether jobs can be taken now, and what stands in the way."""

    ready: bool
    reasons: Annotated[dict[str, str], Field(description="What is not ready, and why.")]
    pools: Annotated[dict[str, str], Field(description="Each pool that does not ask, and why.")]


def create_web(
    webhook: Callable[[Request], Any],
    readiness: Callable[[], Awaitable[Readiness]],
    metrics: Metrics,
    api: ASGIApp | None = None,
    dashboard: Dashboard | None = None,
) -> ASGIApp:
    """The application that listens at `listen.web`."""
    app = FastAPI(openapi_url=None)  # what is described is the API, which does that itself
    # With any method: the door says what it is for.
    app.add_route("/webhook", webhook, methods=_ANY_METHOD, include_in_schema=False)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Alive: the event loop turns."""
        return {"status": "ok", "version": __version__}

    @app.get("/ready", responses={503: {"model": Readiness}})
    async def ready() -> Response:
        """Ready: jobs can be taken."""
        state = await readiness()
        return JSONResponse(state.model_dump(), status_code=200 if state.ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def exposition() -> Response:
        """Prometheus exposition."""
        metrics.read()
        text = await asyncio.to_thread(metrics.exposition)  # long, where there are many pools
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    beside = with_security_headers(app if api is None else _beside(app, api))
    return beside if dashboard is None else _before(dashboard, beside)


def _before(dashboard: Dashboard, app: ASGIApp) -> ASGIApp:
    """Both: the dashboard's answers carry headers of its own."""

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and dashboard.has(scope["path"])
        await (dashboard if ours else app)(scope, receive, send)

    return either


def _beside(app: ASGIApp, api: ASGIApp) -> ASGIApp:
    """Both, by path. Starlette's `Mount` leaves out paths with a line break in them."""

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if path == PREFIX or path.startswith(f"{PREFIX}/"):
            await api({**scope, "root_path": scope.get("root_path", "") + PREFIX}, receive, send)
        else:
            await app(scope, receive, send)

    return either
