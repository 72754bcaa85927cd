"""How the API says no: one JSON form for all, with nothing in it of what was sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from firerunner.errors import FireRunnerError

_MOST_FAULTS = 20
_LONGEST_PLACE = 200
_RETRY_AFTER_S = "5"


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    where: Annotated[str, Field(description="Such as `query.limit` or `body.reason`.")]
    what: Annotated[str, Field(description="What is wrong there.")]


class Refused(BaseModel):
    """Why it was refused, and what to do."""

    message: Annotated[str, Field(description="For people.")]
    faults: Annotated[list[Fault], Field(description="For 422: each thing that is wrong.")] = []


class Refusal(Exception):
    """A request that is not done."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class PlainJson(JSONResponse):
    """JSON in ASCII: names and reasons hold what others wrote, also what UTF-8 cannot say."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer."""
    return PlainJson(Refused(message=message).model_dump(), status, headers)


def answer_refusals(app: FastAPI) -> None:
    """Give every refusal of the application this form."""
    app.add_exception_handler(Refusal, _of_ours)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(FireRunnerError, _of_trouble)


async def _of_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)  # noqa: S101  (Starlette calls by type)
    return refused(error.status, error.message, error.headers)


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    return refused(error.status_code, str(error.detail), error.headers)


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    faults = [
        Fault(where=".".join(map(str, fault["loc"]))[:_LONGEST_PLACE], what=fault["msg"])
        for fault in error.errors()[:_MOST_FAULTS]
    ]
    content = Refused(message="the request does not have the form that is described", faults=faults)
    return PlainJson(content.model_dump(), 422)


async def _of_trouble(request: Request, error: Exception) -> Response:
    """The database, mostly: nothing that the client could mend."""
    assert isinstance(error, FireRunnerError)  # noqa: S101
    return refused(503, error.message, {"Retry-After": _RETRY_AFTER_S})
