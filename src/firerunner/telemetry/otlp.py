"""Sends spans to an OpenTelemetry collector: OTLP over HTTP, protobuf (opentelemetry.io/docs/specs/otlp).

Nobody waits for it. What the collector does not take is kept and sent again, up to `WAITING` spans; then the
oldest go, and are counted. It is imported only where an endpoint is set.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import httpx
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from firerunner import __version__
from firerunner.telemetry.spans import Span, root_number, trace_number

WAITING = 20_000
"""Spans: of about a thousand jobs, some 20 MB."""
BATCH = 512
GATHER_S = 1.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
TIMEOUT_S = 10.0
GOODBYE_S = 3.0
"""How long a stop waits for what has not been sent."""
AGAIN = frozenset({429, 502, 503, 504})
"""Worth another try (OTLP's specification, "Retryable response codes"); other refusals are for good."""


class Otlp:
    """`add` never waits; `run` sends."""

    def __init__(self, endpoint: str, instance: str, dropped: Callable[[int], None], log: Any) -> None:
        """`endpoint`: base address, without `/v1/traces`. `instance` names this process."""
        self._url = f"{endpoint}/v1/traces"
        self._dropped = dropped
        self._log = log
        self._waiting: deque[Span] = deque()
        self._news = asyncio.Event()
        self._away = False
        self._resource = Resource(
            {
                "service.name": "firerunner",
                "service.version": __version__,
                "service.instance.id": instance,
            }
        )
        self._scope = InstrumentationScope("firerunner", __version__)

    def add(self, span: Span) -> None:
        """It is sent later."""
        if len(self._waiting) >= WAITING:
            self._waiting.popleft()
            self._dropped(1)
        self._waiting.append(span)
        self._news.set()

    async def run(self) -> None:
        """Run for ever; when cancelled, send what is left, for `GOODBYE_S` at most."""
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
            try:
                await self._send_all(http)
            except asyncio.CancelledError:
                try:
                    async with asyncio.timeout(GOODBYE_S):
                        while self._waiting and await self._send(http):
                            pass
                except TimeoutError:
                    pass
                if self._waiting:
                    self._log.warning("spans that could not be sent are lost", spans=len(self._waiting))
                raise

    async def _send_all(self, http: httpx.AsyncClient) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.sleep(GATHER_S)
            while self._waiting:
                if await self._send(http):
                    pause_s = FIRST_PAUSE_S
                else:
                    await asyncio.sleep(pause_s * (0.5 + random.random()))  # noqa: S311 (spreads senders)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _send(self, http: httpx.AsyncClient) -> bool:
        """One batch. False if it is still to be sent."""
        batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
        sent = False
        try:
            sent = await self._post(http, batch)
        finally:
            if not sent:
                self._waiting.extendleft(reversed(batch))
                while len(self._waiting) > WAITING:
                    self._waiting.popleft()
                    self._dropped(1)
        return sent

    async def _post(self, http: httpx.AsyncClient, batch: list[Span]) -> bool:
        content = encode_spans([self._readable(span) for span in batch]).SerializeToString()
        try:
            response = await http.post(
                self._url, content=content, headers={"Content-Type": "application/x-protobuf"}
            )
        except httpx.HTTPError as error:
            self._tell(f"{type(error).__name__} {error}".strip())
            return False
        if response.is_success:
            if self._away:
                self._log.info("the traces' endpoint takes spans again")
            self._away = False
            return True
        if response.status_code in AGAIN:
            self._tell(str(response.status_code))
            return False
        self._dropped(len(batch))
        self._log.error("the traces' endpoint refuses spans", status=response.status_code, spans=len(batch))
        return True

    def _tell(self, why: str) -> None:
        if not self._away:
            self._log.warning("the traces' endpoint takes no spans now; they are kept", why=why)
        self._away = True

    def _readable(self, span: Span) -> ReadableSpan:
        trace, root = trace_number(span.gitlab, span.job_id), root_number(span.gitlab, span.job_id)
        number = root if span.is_root else random.getrandbits(64) or 1
        flags = TraceFlags(TraceFlags.SAMPLED)
        return ReadableSpan(
            span.name,
            context=SpanContext(trace, number, is_remote=False, trace_flags=flags),
            parent=None if span.is_root else SpanContext(trace, root, is_remote=False, trace_flags=flags),
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=SpanKind.CLIENT if span.is_call else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR) if span.failed else Status(StatusCode.UNSET),
            start_time=_ns(span.start),
            end_time=_ns(max(span.start, span.end)),
            instrumentation_scope=self._scope,
        )


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
