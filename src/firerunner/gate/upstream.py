"""The gate's calls to GitLab: bytes and headers pass unchanged, nothing large is held in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import httpx

from firerunner.gate.desk import Desk
from firerunner.gate.exchange import Exchange
from firerunner.gate.headers import RawHeaders, downwards, upwards
from firerunner.gate.refusals import Kind, Refusal
from firerunner.gitlab.carrying import Incoming
from firerunner.gitlab.http import CONNECT_TIMEOUT_S, POOL_TIMEOUT_S

RETRY_AFTER_S = 2.0
"""Told with a 503. gitlab-runner retries such a call five times, and traces for as long as the job
runs (network/retry_requester.go, network/trace.go)."""

SHORT_TIMEOUT: Final = httpx.Timeout(connect=CONNECT_TIMEOUT_S, read=120.0, write=60.0, pool=POOL_TIMEOUT_S)
LONG_TIMEOUT: Final = httpx.Timeout(connect=CONNECT_TIMEOUT_S, read=3600.0, write=300.0, pool=POOL_TIMEOUT_S)
"""For artifacts: the runner itself gives an upload an hour (common/consts.go)."""

_BODILESS: Final = frozenset({204, 304})

Body = bytes | AsyncIterator[bytes] | None


class BrokenOff(Exception):
    """GitLab or the guest stopped in the middle of a body."""


class Upstream:
    """Speaks to GitLab in a guest's own words."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def send(
        self,
        exchange: Exchange,
        gitlab: str,
        path: str,
        query: bytes,
        body: Body,
        timeout: httpx.Timeout,
    ) -> Incoming:
        """GitLab's response, its body still to come. A transport error is a 503, never a 502."""
        client = self._desk.speak_to(gitlab)
        headers = _request_headers(exchange, body)
        try:
            return await client.carry(exchange.method, path, query, headers, body, timeout)
        except httpx.HTTPError as error:
            raise self.missing(type(error).__name__) from error

    def missing(self, why: str) -> Refusal:
        self._desk.count("upstream", why)
        return Refusal(503, Kind.UPSTREAM, f"GitLab does not answer ({why})", retry_after_s=RETRY_AFTER_S)

    async def stream_down(self, exchange: Exchange, response: Incoming) -> None:
        limits = self._desk.limits
        try:
            await exchange.start(response.status, downwards(response.raw_headers))
            async for chunk in response.pieces():
                async with asyncio.timeout(limits.idle_s):
                    await exchange.write(chunk, last=False)
        except (httpx.HTTPError, TimeoutError) as error:
            # Too late for another status: break the connection off, so that it is not taken for whole.
            self._desk.count("upstream", type(error).__name__)
            raise BrokenOff from error
        finally:
            await response.aclose()
        await exchange.finish(drain_bytes=limits.drain_bytes, drain_s=limits.drain_s)

    async def read_reply(self, response: Incoming) -> bytes:
        kept = bytearray()
        try:
            async for chunk in response.pieces():
                kept += chunk
                if len(kept) > self._desk.limits.reply_bytes:
                    raise self.missing("its reply is too large")
        except httpx.HTTPError as error:
            raise self.missing(type(error).__name__) from error
        return bytes(kept)

    async def answer_with(self, exchange: Exchange, response: Incoming, content: bytes) -> None:
        """Pass a reply on that has been read whole."""
        headers = [
            (name, value) for name, value in downwards(response.raw_headers) if name != b"content-length"
        ]
        if response.status not in _BODILESS:
            headers.append((b"content-length", str(len(content)).encode()))
        limits = self._desk.limits
        await exchange.answer_early(
            response.status, headers, content, drain_bytes=limits.drain_bytes, drain_s=limits.drain_s
        )

    async def redirect(self, exchange: Exchange, gitlab_url: str, job_id: int) -> None:
        """The runner follows a 307 with its token (network/client.go), and to the full Location."""
        query = b"?" + exchange.query if exchange.query else b""
        location = f"{gitlab_url.rstrip('/')}/api/v4/jobs/{job_id}/artifacts".encode() + query
        await exchange.answer_early(
            307,
            [(b"location", location), (b"content-length", b"0")],
            b"",
            drain_bytes=self._desk.limits.drain_bytes,
            drain_s=self._desk.limits.drain_s,
        )


def _request_headers(exchange: Exchange, body: Body) -> RawHeaders:
    headers = upwards(exchange.raw_headers)
    if body is None or isinstance(body, bytes):
        headers = [(name, value) for name, value in headers if name != b"content-length"]
    return headers
