"""The ask: one `POST /jobs/request` for one reserved machine.

GitLab assigns a job at the moment it answers, so the two things that matter here are that an ask in
flight is never cut off by us before the longest long poll is over, and that whatever came is kept,
even half of it. There is no retry inside: the caller decides, knowing whether a job may have been
assigned without our seeing it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from firerunner.gitlab.backoff import retry_after_s
from firerunner.gitlab.http import CONNECT_TIMEOUT_S, POOL_TIMEOUT_S, WRITE_TIMEOUT_S
from firerunner.gitlab.wire import Wire, is_retriable, kind_of, message_of

ASK_READ_TIMEOUT_S = 90.0
"""Longer than the longest long poll in use (50 s, GitLab's documentation "Long polling")."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024

LAST_UPDATE: Final = "X-GitLab-Last-Update"

REFUSALS: Final = frozenset({401, 403, 422})
"""422 is GitLab's "Runner is orphaned" (Rails lib/api/ci/runner.rb): waiting does not help either."""

NEVER_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""Errors before the first byte of the request has left."""

CONFLICT: Final = 409
"""No job was handed out: another ask was faster (Rails app/services/ci/register_job_service.rb)."""

LIMITED: Final = 429
"""No job was handed out: the rate limit."""


@dataclass(frozen=True, slots=True)
class AskedJob:
    """GitLab has handed us a job: from here on it is ours, whatever the bytes are worth."""

    raw: bytes = field(repr=False)
    complete: bool = True
    """False if the connection broke, or the answer passed the size limit, before its end."""


@dataclass(frozen=True, slots=True)
class AskedNothing:
    """No job now. `last_update` is to be sent back with the runner's next ask."""

    last_update: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The runner token is wrong, revoked or expired, or the runner may not ask at all."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Neither yes nor no."""

    message: str
    retry_after_s: float | None
    maybe_assigned: bool
    """True if the request may have reached GitLab, so that a job may be ours without our knowing."""


@dataclass(frozen=True, slots=True)
class Raced:
    """There are jobs, but others were faster."""

    message: str


Answer = AskedJob | AskedNothing | Refused | Raced | Trouble


def ask_body(
    runner_token: str, system_id: str, info: Mapping[str, Any], last_update: str | None
) -> dict[str, Any]:
    """The JSON of an ask: the image's recorded `info` whole, but for what we must not promise.

    Two-phase commit was an experiment with known defects, and a terminal session would need the
    guest to be reachable; so the first is declared false and the second never sent.
    """
    features = {**dict(info.get("features") or {}), "two_phase_job_commit": False}
    body: dict[str, Any] = {
        "info": {**{key: value for key, value in info.items() if key != "session"}, "features": features},
        "token": runner_token,
        "system_id": system_id,
    }
    if last_update:
        body["last_update"] = last_update
    return body


class RunnerClient(Wire):
    """Asks in the name of a runner."""

    async def ask(
        self, runner_token: str, system_id: str, info: Mapping[str, Any], last_update: str | None = None
    ) -> Answer:
        """One ask. Never raises for anything that GitLab or the network does."""
        request = self.http.build_request(
            "POST",
            self.url("jobs/request"),
            headers={"RUNNER-TOKEN": runner_token, "Accept": "application/json"},
            json=ask_body(runner_token, system_id, info, last_update),
            timeout=httpx.Timeout(
                connect=CONNECT_TIMEOUT_S, read=ASK_READ_TIMEOUT_S, write=WRITE_TIMEOUT_S, pool=POOL_TIMEOUT_S
            ),
        )
        try:
            response = await self.http.send(request, stream=True)
        except httpx.HTTPError as error:
            self.count("ask", kind_of(error))
            return Trouble(
                f"GitLab at {self.base_url} does not answer the ask: {kind_of(error)} {error}".strip(),
                retry_after_s=None,
                maybe_assigned=not isinstance(error, NEVER_SENT),
            )
        try:
            raw, whole = await self._read(response)
        finally:
            await response.aclose()
        if response.status_code == 201:
            if not whole:
                self.count("ask", "cut")
            return AskedJob(raw, complete=whole)
        if response.status_code == 204:
            return AskedNothing(response.headers.get(LAST_UPDATE))
        return self._no(_read_whole(response, raw))

    async def _read(self, response: httpx.Response) -> tuple[bytes, bool]:
        kept = bytearray()
        try:
            async for chunk in response.aiter_bytes():
                kept += chunk
                if len(kept) > MAX_ANSWER_BYTES:
                    return bytes(kept), False
        except httpx.HTTPError as error:
            self.count("ask", kind_of(error))
            return bytes(kept), False
        return bytes(kept), True

    def _no(self, response: httpx.Response) -> Refused | Raced | Trouble:
        status = response.status_code
        self.count("ask", str(status))
        if status in REFUSALS:
            return Refused(status, message_of(response))
        message = f"GitLab at {self.base_url} answers the ask with {message_of(response)}"
        if status == CONFLICT:
            return Raced(message)
        return Trouble(
            message,
            retry_after_s=retry_after_s(response.headers, self.clock()),
            maybe_assigned=is_retriable(status) and status != LIMITED,
        )


def _read_whole(response: httpx.Response, content: bytes) -> httpx.Response:
    headers = response.headers.copy()
    for name in ("Content-Encoding", "Content-Length", "Transfer-Encoding"):
        headers.pop(name, None)
    return httpx.Response(response.status_code, headers=headers, content=content, request=response.request)
