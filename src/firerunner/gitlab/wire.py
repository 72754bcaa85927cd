"""One short call to GitLab: where it goes, how its failures are told apart, how it is repeated.

The ask (`asks`) does not use the repetition here: an ask is never repeated by itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx

from firerunner.errors import GitLabError, Unreachable
from firerunner.gitlab.backoff import retry_after_s, wait_s
from firerunner.hiding import without

Count = Callable[[str, str], None]
"""Called with the activity (`ask`, `keep`, ...) and the kind of error, once for each error."""

RETRIABLE = frozenset({408, 429, 500, 502, 503, 504})
"""And all from 512 on; as gitlab-runner (network/retry_requester.go)."""

MAX_MESSAGE_CHARS = 300

TOKEN_HEADERS = ("RUNNER-TOKEN", "JOB-TOKEN", "PRIVATE-TOKEN")
"""How a call shows whose it is."""


def uncounted(activity: str, kind: str) -> None:
    """The default for `count`."""


def is_retriable(status: int) -> bool:
    return status in RETRIABLE or status >= 512


def is_web_page(headers: Mapping[str, str]) -> bool:
    """A log-in page of some proxy, or an error page, where the API never answers HTML."""
    return headers.get("Content-Type", "").lower().lstrip().startswith("text/html")


def message_of(response: httpx.Response) -> str:
    """What a read response says, short, fit for a log line, and without the token that it was shown."""
    if is_web_page(response.headers):
        return f"{response.status_code} with a web page instead of an API answer"
    try:
        said: Any = response.json()
    except ValueError:
        said = response.text
    if isinstance(said, dict):
        said = said.get("message") or said.get("error") or ""
    text = " ".join(without(str(said), _shown(response)).split())[:MAX_MESSAGE_CHARS]
    code = str(response.status_code)
    return text if text.startswith(code) else f"{code} {text}".strip()


def _shown(response: httpx.Response) -> list[str]:
    headers = response.request.headers
    return [headers[name] for name in TOKEN_HEADERS if name in headers]


def kind_of(error: httpx.HTTPError) -> str:
    """A name for the metric: `ConnectTimeout`, `ReadError` and so on."""
    return type(error).__name__


class Wire:
    """GitLab's API at `base_url` (which may have a path), spoken over `http`.

    `sleep` and `clock` are there for tests. Nothing here knows a token: callers give headers.
    """

    def __init__(
        self,
        base_url: str,
        http: httpx.AsyncClient,
        *,
        count: Count = uncounted,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.http = http
        self.count = count
        self.clock = clock
        self._sleep = sleep

    def url(self, path: str) -> str:
        return f"{self.base_url}/api/v4/{path}"

    async def call(
        self,
        activity: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        json: Any = None,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
        tries: int = 1,
    ) -> httpx.Response:
        """The response, read whole. Raises `Unreachable` after the last of `tries`.

        Only for calls that may be repeated without harm. Waits between tries are bounded; a longer
        wish of GitLab is handed to the caller in `Unreachable.retry_after_s`.
        """
        request = self.http.build_request(
            method, self.url(path), headers=dict(headers), json=json, content=content, params=params
        )
        for attempt in range(1, tries + 1):
            try:
                return await self._once(activity, request)
            except Unreachable as error:
                wish_s = error.retry_after_s
                if attempt == tries or (wish_s is not None and wish_s > MAX_WAIT_S):
                    raise
                jitter = random.random()  # noqa: S311 (spreads callers, guards nothing)
                await self._sleep(wait_s(attempt, wish_s, jitter=jitter, cap_s=MAX_WAIT_S))
        raise GitLabError("a call needs at least one try")

    async def _once(self, activity: str, request: httpx.Request) -> httpx.Response:
        what = f"{request.method} {request.url.path}"
        try:
            response = await self.http.send(request)
        except httpx.HTTPError as error:
            self.count(activity, kind_of(error))
            raise Unreachable(
                f"GitLab at {self.base_url} does not answer {what}: {kind_of(error)} {error}".strip(),
                remedy="it is tried again; check the network and GitLab's health if this lasts",
            ) from error
        if is_retriable(response.status_code):
            self.count(activity, str(response.status_code))
            raise Unreachable(
                f"GitLab at {self.base_url} answers {what} with {message_of(response)}",
                remedy="it is tried again; check GitLab's health and rate limits if this lasts",
                retry_after_s=retry_after_s(response.headers, self.clock()),
            )
        return response


MAX_WAIT_S = 30.0
"""The longest pause between two tries inside one call."""
