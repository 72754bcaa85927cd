"""Measures what is said to a GitLab: which endpoint, what came of it, how long until the answer began.

It stands below all clients of one GitLab, the gate's included, so nothing that goes there is missed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from firerunner.gitlab.carrying import Carrier, Incoming, Outgoing

_JOB = re.compile(r"/api/v4/jobs/(?P<job>[0-9]{1,18})(?P<rest>/trace|/artifacts)?")
_ENDPOINTS = {
    ("POST", "/api/v4/jobs/request"): "ask",
    ("DELETE", "/api/v4/runners/managers"): "manager_delete",
    ("POST", "/api/v4/runners/verify"): "runner_verify",
}
_JOB_ENDPOINTS = {
    ("PUT", None): "job_update",
    ("PATCH", "/trace"): "job_trace",
    ("POST", "/artifacts"): "artifacts_upload",
    ("GET", "/artifacts"): "artifacts_download",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One call that is over."""

    endpoint: str
    """Of a small set; `other` for what is not known here, `rest` for a user's calls."""
    status: int | None
    """None if no answer came."""
    seconds: float
    job: int | None = None
    """GitLab's id of the job that it is about."""
    remaining: int | None = None
    """GitLab's `RateLimit-Remaining`, where it tells (its documentation "User and IP rate limits")."""
    limit: int | None = None


Heard = Callable[[Call], None]


def unheard(call: Call) -> None:
    """The default for `heard`."""


def endpoint(method: str, path: str) -> tuple[str, int | None]:
    """What a call is, and about which job. A GitLab may have a path of its own before `/api/v4`."""
    path = path[max(path.find("/api/v4/"), 0) :]
    if (method, path) in _ENDPOINTS:
        return _ENDPOINTS[method, path], None
    found = _JOB.fullmatch(path)
    if found is None:
        return "other", None
    return _JOB_ENDPOINTS.get((method, found["rest"]), "other"), int(found["job"])


def whole(text: str | None) -> int | None:
    """A count in a header, or None."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 12 else None


class Measured:
    """A carrier that passes everything on to `inner`."""

    def __init__(self, inner: Carrier, heard: Heard) -> None:
        self._inner = inner
        self._heard = heard

    async def carry(self, outgoing: Outgoing) -> Incoming:
        """Raises what `inner` raises. An ask that is cancelled by its caller is not heard."""
        began = time.monotonic()
        what, job = endpoint(outgoing.method, outgoing.url.path)
        try:
            incoming = await self._inner.carry(outgoing)
        except httpx.HTTPError:
            self._heard(Call(what, None, time.monotonic() - began, job))
            raise
        self._heard(
            Call(
                what,
                incoming.status,
                time.monotonic() - began,
                job,
                whole(incoming.headers.get("RateLimit-Remaining")),
                whole(incoming.headers.get("RateLimit-Limit")),
            )
        )
        return incoming

    async def aclose(self) -> None:
        """Close `inner`."""
        await self._inner.aclose()
