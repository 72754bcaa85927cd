"""Makes the fake answer wrongly, late, in part, or not at all: rules that tests set, matched per request."""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
CUT = "fake_gitlab.cut"


@dataclass(slots=True)
class Rule:
    """When a request is answered otherwise, and how. One of the actions, with `delay_s` before it."""

    path: str
    """A regular expression for the whole path, without the query."""

    method: str = ""
    """Empty for every method."""

    times: int | None = None
    """How often it applies at most; None for always."""

    skip: int = 0
    """How many matching requests pass first."""

    probability: float = 1.0
    seed: int = 0
    delay_s: float = 0.0
    status: int | None = None
    """Answer with this status, `body` and `headers`, without any effect."""

    body: str = ""
    """Where it says `SHOWN`, it repeats the token that the request has shown."""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after_bytes: int | None = None
    """Let the effect happen, send so much of the answer's body, and close the connection."""

    lose_answer: bool = False
    """Let the effect happen, and close the connection without a word."""

    refuse: bool = False
    """Close the connection before anything happens."""

    hold: bool = False
    """Keep the request waiting until `release`."""

    used: int = 0
    seen: int = 0
    _random: random.Random = field(init=False)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        re.compile(self.path)
        self._random = random.Random(self.seed)

    def applies(self, method: str, path: str) -> bool:
        """Whether this request is struck; counts."""
        if self.method and self.method.upper() != method:
            return False
        if not re.fullmatch(self.path, path) or (self.times is not None and self.used >= self.times):
            return False
        self.seen += 1
        if self.seen <= self.skip or self._random.random() >= self.probability:
            return False
        self.used += 1
        return True

    def release(self) -> None:
        """Let go of what is held, now and from now on."""
        self._released.set()

    async def wait(self) -> None:
        """The rule's delay, or its hold."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.hold:
            await self._released.wait()


def bad_gateway(path: str, **more: Any) -> Rule:
    """A proxy's HTML page instead of the API's JSON."""
    return Rule(path, status=502, body=BAD_GATEWAY.decode(), headers={"Content-Type": "text/html"}, **more)


def too_many_requests(path: str, retry_after_s: int, **more: Any) -> Rule:
    """GitLab's 429, with the seconds to wait."""
    headers = {"Retry-After": str(retry_after_s), "RateLimit-Remaining": "0", "Content-Type": "text/plain"}
    return Rule(path, status=429, body="Retry later\n", headers=headers, **more)


def conflict(path: str = "/api/v4/jobs/request", **more: Any) -> Rule:
    """The 409 of an ask that lost a race."""
    return Rule(path, status=409, body='{"message":"409 Conflict"}', **more)


class Misbehaviour:
    """ASGI middleware that applies the first matching rule."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.rules: list[Rule] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request, or spoil it."""
        rule = None
        if scope["type"] == "http":
            rule = next((rule for rule in self.rules if rule.applies(scope["method"], scope["path"])), None)
        if rule is None:
            await self._app(scope, receive, send)
            return
        await rule.wait()
        if rule.refuse:
            await scope[CUT](at_once=True)
        elif rule.status is not None:
            await _answer(rule, send, _shown(scope))
        elif rule.lose_answer:
            await self._app(scope, receive, _swallow)
            await scope[CUT](at_once=True)
        elif rule.cut_after_bytes is not None:
            await self._cut(rule.cut_after_bytes, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _cut(self, allowance: int, scope: Scope, receive: Receive, send: Send) -> None:
        left = allowance

        async def send_some(message: Message) -> None:
            nonlocal left
            if message["type"] != "http.response.body" or left < 0:
                if left >= 0:
                    await send(message)
                return
            body = message.get("body", b"")
            if len(body) < left:
                left -= len(body)
                await send({**message, "more_body": True})
                return
            await send({"type": "http.response.body", "body": body[:left], "more_body": True})
            left = -1

        await self._app(scope, receive, send_some)
        await scope[CUT](at_once=False)


def _shown(scope: Scope) -> bytes:
    tokens = (b"runner-token", b"job-token", b"private-token")
    return b" ".join(value for name, value in scope["headers"] if name in tokens)


async def _answer(rule: Rule, send: Send, shown: bytes) -> None:
    body = rule.body.encode().replace(b"SHOWN", shown)
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    headers |= {name.lower(): value for name, value in rule.headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": rule.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def _swallow(message: Message) -> None:
    """An answer that nobody gets."""
