"""Answers in the shapes that GitLab's API gives them, and reading of requests as it reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class Refused(Exception):
    """Raised by a handler to answer with this response instead."""

    def __init__(self, response: Response) -> None:
        super().__init__(str(response.status_code))
        self.response = response


REASONS = {
    400: "400 Bad request", 401: "401 Unauthorized", 403: "403 Forbidden", 404: "404 Not found",
    405: "405 Method Not Allowed", 409: "409 Conflict", 413: "413 Request Entity Too Large",
    416: "416 Range Not Satisfiable",
}  # fmt: skip


def message(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """`{"message": "403 Forbidden - detail"}`, as Rails' `render_api_error!` writes it."""
    text = REASONS[status] + (f" - {detail}" if detail else "")
    return JSONResponse({"message": text}, status, headers=dict(headers or {}))


def parameter_error(text: str) -> Response:
    """Grape's answer to a missing or invalid parameter."""
    return JSONResponse({"error": text}, 400)


def plain(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """The bare number as the body: what Rails answers to job updates and uploads."""
    return Response(str(status), status, headers=dict(headers or {}), media_type="application/json")


async def json_body(request: Request) -> dict[str, Any]:
    """The parameters of a body, JSON or form; raises `Refused` with Grape's 400."""
    raw = await request.body()
    if not raw:
        return {}
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(raw.decode(errors="replace"), keep_blank_values=True))
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refused(JSONResponse({"message": "400 Bad Request"}, 400))
    return body


def required(body: Mapping[str, Any], name: str) -> Any:
    """A parameter that must be there; raises `Refused` with Grape's 400."""
    if body.get(name) in (None, ""):
        raise Refused(parameter_error(f"{name} is missing"))
    return body[name]


def mapping(value: Any) -> dict[str, Any]:
    """A nested object, or an empty one where something else was sent."""
    return value if isinstance(value, dict) else {}


def integer(body: Mapping[str, Any], name: str) -> int:
    """A parameter that must be a number; raises `Refused` with Grape's 400."""
    value = str(required(body, name))
    if not value.removeprefix("-").isdecimal():
        raise Refused(parameter_error(f"{name} is invalid"))
    return int(value)


def client_address(request: Request) -> str:
    """The peer's address, as GitLab notes it for managers."""
    return request.client.host if request.client else ""
