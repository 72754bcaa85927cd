"""The wires between the parts: in-process HTTP that can break, and a ledger whose commits need power."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import sqlalchemy as sa
from starlette.types import ASGIApp, Message

from firerunner.ledger import Ledger
from firerunner.ledger.access import Access
from firerunner.ledger.writer import Work, Writer
from tests.sim.power import Power

PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


async def call(app: ASGIApp, request: httpx.Request) -> httpx.Response:
    """One request to an application, and its whole answer."""
    body = await request.aread()
    given, answered = False, asyncio.Event()
    status, headers, content = 500, [], bytearray()  # type: ignore[var-annotated]

    async def receive() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], message["headers"]
        else:
            content.extend(message.get("body", b""))
            if not message.get("more_body", False):
                answered.set()

    raw_path, _, query = request.url.raw_path.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(key.lower(), value) for key, value in request.headers.raw],
        "scheme": "http",
        "path": request.url.path,
        "raw_path": raw_path,
        "query_string": query,
        "server": (request.url.host, 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
    await app(scope, receive, send)
    return _response(status, headers, bytes(content), request)


def _response(
    status: int, headers: Any, content: bytes, request: httpx.Request, breaks_at: int | None = None
) -> httpx.Response:
    return httpx.Response(
        status, headers=headers, stream=_Pieces(content, request, breaks_at), request=request
    )


LONGEST_WAIT_S = 95.0
"""For an answer that does not come, of who has said no limit."""


@dataclass
class Weather:
    """How GitLab and the way to it are. Shares are of all calls, from 0 to 1."""

    seed: int
    bad: float = 0.0
    """Answered wrongly or not at all."""
    only: str = ""
    """What each call meets, whatever the share."""
    away: bool = False
    """Nobody can connect."""
    done: Counter[str] = field(default_factory=Counter)
    """What has been done to calls."""
    limited_until: dict[str, float] = field(default_factory=dict)
    """By runner token: until when GitLab has asked to be left alone."""
    disrespected: int = 0
    """Asks that came all the same."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    async def carry(self, app: ASGIApp, request: httpx.Request, now: Callable[[], float]) -> httpx.Response:
        """One call, through this weather."""
        token = request.headers.get("runner-token", "")
        is_ask = request.url.path.endswith("/jobs/request")
        if is_ask and now() < self.limited_until.get(token, 0.0):
            self.disrespected += 1
        if self.away:
            raise httpx.ConnectError("nobody is there", request=request)
        kind = self._kind()
        self.done[kind] += 1
        if kind == "limited":
            wait_s = self._random.randrange(1, 30)
            headers = {"Retry-After": str(wait_s)} if self._random.random() < 0.5 else {}
            if headers and is_ask:
                self.limited_until[token] = now() + wait_s
            return _response(429, headers, b"Retry later\n", request)
        if kind == "broken":
            return _response(500, {"Content-Type": "application/json"}, b'{"message":"500"}', request)
        if kind == "page":
            return _response(502, {"Content-Type": "text/html"}, PAGE, request)
        if kind == "hangs":
            await asyncio.sleep(request.extensions.get("timeout", {}).get("read") or LONGEST_WAIT_S)
            raise httpx.ReadTimeout("no answer", request=request)
        if kind == "refused":
            raise httpx.ConnectError("refused", request=request)
        response = await call(app, request)
        if kind == "lost":
            raise httpx.ReadError("the connection broke", request=request)
        if kind == "cut":
            content = await response.aread()
            at = self._random.randrange(len(content) + 1)
            return _response(response.status_code, response.headers, content, request, at)
        return response

    def _kind(self) -> str:
        if self.only:
            return self.only
        if self._random.random() >= self.bad:
            return "fine"
        return self._random.choice(["limited", "broken", "page", "hangs", "refused", "lost", "cut"])


class _Pieces(httpx.AsyncByteStream):
    """A body; with `breaks_at` the connection is gone after so many bytes."""

    def __init__(self, content: bytes, request: httpx.Request, breaks_at: int | None) -> None:
        self._content, self._request, self._breaks_at = content, request, breaks_at

    async def __aiter__(self) -> Any:
        yield self._content[: self._breaks_at]
        if self._breaks_at is not None:
            raise httpx.ReadError("the connection broke", request=self._request)


class ToGitLab(httpx.AsyncBaseTransport):
    """From the service, or from a guest, to GitLab. With a `power` every call has its points."""

    def __init__(self, app: ASGIApp, weather: Weather, now: Callable[[], float], power: Power | None) -> None:
        self._app, self._weather, self._now, self._power = app, weather, now, power

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx asks."""
        name = f"{request.method} {_shape(request.url.path)}"
        if self._power is None:
            return await self._weather.carry(self._app, request, self._now)
        await self._power.point(f"{name}: before")
        try:
            response = await self._weather.carry(self._app, request, self._now)
        except httpx.HTTPError:
            await self._power.point(f"{name}: after")
            raise
        await self._power.point(f"{name}: after")
        return response


def _shape(path: str) -> str:
    return "/".join("N" if part.isdigit() else part for part in path.split("/")[3:])


class ToGate(httpx.AsyncBaseTransport):
    """From a guest to whichever process serves now."""

    def __init__(self, find: Callable[[], tuple[ASGIApp, Power] | None]) -> None:
        self._find = find

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As httpx asks; a process that ends takes its connections with it."""
        found = self._find()
        if found is None:
            raise httpx.ConnectError("nobody listens", request=request)
        app, power = found
        answering = asyncio.ensure_future(call(app, request))
        ending = asyncio.ensure_future(power.lost.wait())
        try:
            await asyncio.wait({answering, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() or not power.on:
                raise httpx.ReadError("the connection broke", request=request)
            return await answering
        finally:
            for task in (answering, ending):
                task.cancel()
            await asyncio.gather(answering, ending, return_exceptions=True)


class PoweredWriter(Writer):
    """Commits only while there is power, and has a point before and after each write."""

    def __init__(self, engine: Any, power: Power, fault: Callable[[], Exception | None]) -> None:
        super().__init__(engine)
        self._power = power
        self._fault = fault

        @sa.event.listens_for(engine.sync_engine, "commit")
        def on_commit(_: object) -> None:
            if not power.on:
                raise OSError("there is no power")

    async def run(self, work: Work[Any]) -> Any:
        """As `Writer.run`."""
        name = _name_of(work)
        await self._power.point(f"{name}: before")
        error = self._fault()
        if error is not None:
            raise error
        result = await super().run(work)
        await self._power.point(f"{name}: after")
        return result


def _name_of(work: Any) -> str:
    inner = next(
        (cell.cell_contents for cell in work.__closure__ or () if callable(cell.cell_contents)), work
    )
    call = str(getattr(inner, "__qualname__", inner)).partition(".<locals>")[0]
    return f"Ledger.{call.rpartition('.')[2]}"


def powered(ledger: Ledger, power: Power, fault: Callable[[], Exception | None]) -> Ledger:
    """The same ledger, whose writes need power."""
    access: Access = ledger._access
    return Ledger(replace(access, writer=PoweredWriter(access.engine, power, fault)))
