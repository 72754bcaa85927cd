"""Job calls on their way to GitLab: who may make them, and how each one passes.

Small replies (to PUT and PATCH) are read whole, so that what they mean is in the ledger before the
guest knows it. Artifacts stream, in both directions, or go to GitLab directly where the guest may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from firerunner.gate.checks import Tie, Ties
from firerunner.gate.desk import Desk
from firerunner.gate.exchange import ClientGone, Exchange
from firerunner.gate.headers import check_query, without_direct_download
from firerunner.gate.refusals import Kind, Refusal
from firerunner.gate.routes import Activity
from firerunner.gate.story import Story
from firerunner.gate.upstream import LONG_TIMEOUT, SHORT_TIMEOUT, Body, Upstream
from firerunner.gate.verdicts import Said, read_update
from firerunner.gitlab.wire import is_web_page

WHOLE_BYTES = 64 * 1024
"""A patch up to this size is read whole before it is sent on: to stream it costs more than to keep it."""


class Relay:
    """Passes job calls on, and sees what they mean."""

    def __init__(self, desk: Desk, ties: Ties, upstream: Upstream, story: Story) -> None:
        self._desk = desk
        self._ties = ties
        self._upstream = upstream
        self._story = story

    async def update(self, exchange: Exchange, machine_id: str, job_id: int) -> None:
        """`PUT /jobs/N`: token in the header, in the body, or in both."""
        limits = self._desk.limits
        header = exchange.header("job-token")
        check_query(exchange.query)
        tie = await self._ties.for_job(machine_id, job_id, header)
        body = await exchange.body(limits.json_body_bytes, limits.body_timeout_s)
        said = read_update(body)
        if said.token is None and header is None:
            raise Refusal(403, Kind.WRONG_TOKEN, "no job token is given")
        if said.token is not None:
            self._ties.check_token(tie, said.token)
        await self._story.first_word(tie)
        await self._pass(exchange, tie, Activity.UPDATE, body, said)

    async def trace(self, exchange: Exchange, machine_id: str, job_id: int) -> None:
        """`PATCH /jobs/N/trace`: token in the header only."""
        limits = self._desk.limits
        check_query(exchange.query)
        tie = await self._ties.for_job(machine_id, job_id, _token(exchange))
        await self._story.first_word(tie)
        declared = exchange.declared_length()
        body: Body = exchange.chunks(limits.trace_patch_bytes, limits.body_timeout_s)
        if declared is not None and declared <= WHOLE_BYTES:
            body = await exchange.body(WHOLE_BYTES, limits.body_timeout_s)
        await self._pass(exchange, tie, Activity.TRACE, body, None)

    async def upload(self, exchange: Exchange, machine_id: str, job_id: int) -> None:
        """`POST /jobs/N/artifacts`: sent to GitLab by 307 where the guest may go there, else streamed."""
        check_query(exchange.query)
        tie = await self._ties.for_job(machine_id, job_id, _token(exchange))
        await self._story.first_word(tie)
        if tie.facts.artifacts_url is not None:
            await self._upstream.redirect(exchange, tie.facts.artifacts_url, tie.gitlab_job_id)
            return
        body = exchange.chunks(None, self._desk.limits.idle_s)
        response = await self._upstream.send(
            exchange, tie.gitlab, f"jobs/{tie.gitlab_job_id}/artifacts", exchange.query, body, LONG_TIMEOUT
        )
        await self._upstream.stream_down(exchange, response)

    async def download(self, exchange: Exchange, machine_id: str, dependency_id: int) -> None:
        """`GET /jobs/D/artifacts`, where D is one of its job's dependencies."""
        check_query(exchange.query)
        tie = await self._ties.for_dependency(machine_id, dependency_id, _token(exchange))
        await exchange.body(0, self._desk.limits.body_timeout_s)
        await self._story.first_word(tie)
        if tie.facts.artifacts_url is not None:
            await self._upstream.redirect(exchange, tie.facts.artifacts_url, dependency_id)
            return
        query = exchange.query if tie.facts.object_storage else without_direct_download(exchange.query)
        path = f"jobs/{dependency_id}/artifacts"
        await _while_there(exchange, self._fetch(exchange, tie.gitlab, path, query))

    async def _fetch(self, exchange: Exchange, gitlab: str, path: str, query: bytes) -> None:
        response = await self._upstream.send(exchange, gitlab, path, query, None, LONG_TIMEOUT)
        await self._upstream.stream_down(exchange, response)

    async def _pass(
        self, exchange: Exchange, tie: Tie, activity: Activity, body: Body, said: Said | None
    ) -> None:
        path = f"jobs/{tie.gitlab_job_id}" + ("/trace" if activity is Activity.TRACE else "")
        response = await self._upstream.send(exchange, tie.gitlab, path, exchange.query, body, SHORT_TIMEOUT)
        try:
            content = await self._upstream.read_reply(response)
        finally:
            await response.aclose()
        if is_web_page(response.headers):
            # Passed on it would be taken for GitLab's word, and the job's end would be lost.
            raise self._upstream.missing("a web page answers in its place")
        await self._story.replied(tie, activity, said, response)
        await self._upstream.answer_with(exchange, response, content)


def _token(exchange: Exchange) -> str:
    token = exchange.header("job-token")
    if not token:
        raise Refusal(403, Kind.WRONG_TOKEN, "no job token is given")
    return token


async def _while_there(exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, unless the guest hangs up before: nobody is there to take what GitLab sends."""
    working = asyncio.ensure_future(work)
    hung_up = asyncio.ensure_future(exchange.gone())
    try:
        await asyncio.wait({working, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        await working
    finally:
        working.cancel()
        hung_up.cancel()
        await asyncio.gather(working, hung_up, return_exceptions=True)
