"""The operator API, `/api/v1`: the routes, their description, and the guard before them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Security
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp

from firerunner import __version__
from firerunner.web.access import Access
from firerunner.web.acting import create_acting
from firerunner.web.acts import Acts
from firerunner.web.guard import Count, Guard
from firerunner.web.operations import Operations
from firerunner.web.reading import create_reading
from firerunner.web.refusals import PlainJson, Refused, answer_refusals

PREFIX = "/api/v1"

_ABOUT = """Reads need `api.read_token` or `api.operate_token`, acts need `api.operate_token`, both as
`Authorization: Bearer`. All times are Unix seconds."""

_REFUSALS = {
    401: "No token, or not one of ours.",
    403: "The API is closed, or this token may not do that.",
    422: "The request does not have the form that is described; `faults` says where.",
    429: "Too many failed authentications from this address; see `Retry-After`.",
    503: "The database does not answer now; see `Retry-After`.",
}
_NOT_FOUND = {404: "There is no such thing."}
_OF_BODIES = {
    400: "The body is not JSON.",
    404: "There is no such thing.",
    409: "The job is over, or the machine is not held.",
    408: "The body has not come in time.",
    413: "The body is too large.",
    415: "The body is not said to be JSON.",
}


def create_api(operations: Operations, acts: Acts, access: Access, count: Count) -> ASGIApp:
    """The application to be mounted at `PREFIX`."""
    return Guard(described(operations, acts), access, count)


def described(operations: Operations, acts: Acts) -> FastAPI:
    """The routes with their description, before the guard is put in front of them."""
    app = FastAPI(
        title="FireRunner",
        description=_ABOUT,
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        default_response_class=PlainJson,
        # For the description only: the guard looks, before anything is read.
        dependencies=[Security(HTTPBearer(scheme_name="token", auto_error=False))],
    )
    answer_refusals(app)
    app.include_router(create_reading(operations), responses=_refusing(_REFUSALS | _NOT_FOUND))
    app.include_router(create_acting(acts), responses=_refusing(_REFUSALS | _OF_BODIES))
    return app


def _refusing(refusals: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refused, "description": text} for status, text in sorted(refusals.items())}
