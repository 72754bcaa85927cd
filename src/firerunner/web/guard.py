"""Stands before the API: lets in who may, bounds what they send, and counts.

It is no dependency of the routes, because a framework reads a request's body before it asks those.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from firerunner.intake.answers import EarlyAnswer
from firerunner.intake.bodies import Bodies, TooLarge, TooMuch, TooSlow
from firerunner.web.access import Access, Caller
from firerunner.web.refusals import Refusal

MAX_BODY = 16 * 1024
BODY_TIMEOUT_S = 10.0
_DISCARD_BYTES = 1024 * 1024
_DISCARD_S = 2.0
_CALLER = "firerunner.caller"

Count = Callable[[str, str], None]
"""Gets the caller's right (`none` if refused at the door) and the status of the answer."""


def caller_of(request: Request) -> Caller:
    """Who was let in with this request."""
    caller: Caller = request.scope[_CALLER]
    return caller


By = Annotated[Caller, Depends(caller_of)]


def only_json(request: Request) -> None:
    """For routes with a body. No page in a browser can send this without asking first. Raises Refusal."""
    kinds = request.headers.getlist("content-type")
    if [kind.partition(";")[0].strip().lower() for kind in kinds] != ["application/json"]:
        raise Refusal(415, "the body must be JSON: `Content-Type: application/json`")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Refusal(415, "compressed bodies are not accepted")


class Guard:
    """An ASGI application around the API."""

    def __init__(self, api: ASGIApp, access: Access, count: Count) -> None:
        self._api = api
        self._access = access
        self._count = count
        self._bodies = Bodies()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._api(scope, receive, send)
            return
        right = "none"

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._count(right, str(message["status"]))
            await send(message)

        request = Request(scope, receive)
        try:
            caller = self._access.caller(request)
            right = caller.right
            body = await read_body(self._bodies, request) if request.method == "POST" else None
        except Refusal as refusal:
            await _early(refusal)(scope, receive, counted)
            return
        except ClientDisconnect:
            await Response(status_code=204)(scope, receive, counted)  # to nobody
            return
        known = {**scope, _CALLER: caller}
        await self._api(known, receive if body is None else _replayed(body, receive), counted)


async def read_body(bodies: Bodies, request: Request, *, stranger: bool = False) -> bytes:
    """All of it. Raises Refusal, ClientDisconnect."""
    too_large = Refusal(413, f"larger than {MAX_BODY} bytes")
    declared = request.headers.get("content-length", "0")
    if len(declared) > len(str(MAX_BODY)) or (declared.isdecimal() and int(declared) > MAX_BODY):
        raise too_large
    try:
        return await bodies.read(request.stream(), MAX_BODY, BODY_TIMEOUT_S, stranger=stranger)
    except (TooLarge, TooMuch):
        raise too_large from None
    except TooSlow:
        raise Refusal(408, f"the body has not come within {BODY_TIMEOUT_S:g} s") from None


def _early(refusal: Refusal) -> Response:
    return EarlyAnswer(
        refusal.status,
        refusal.message,
        refusal.headers,
        discard_bytes=_DISCARD_BYTES,
        discard_s=_DISCARD_S,
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """`receive` of somebody whose body has been read already."""
    given = False

    async def again() -> MutableMapping[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
