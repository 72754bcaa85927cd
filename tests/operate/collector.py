"""An OpenTelemetry collector on loopback: OTLP over HTTP, protobuf; keeps what it is sent."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from firerunner.serving import served


@dataclass
class Collector:
    """`statuses` are the answers to come, one for each request; then 200."""

    statuses: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """Of what it has taken."""
    spans: list[Span] = field(default_factory=list)
    url: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        request = Request(scope, receive)
        body = await request.body()
        self.paths.append(request.url.path)
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.bodies.append(body)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scoped in resource.scope_spans:
                    self.spans += scoped.spans
        await Response(status_code=status)(scope, receive, send)

    def named(self, name: str) -> list[Span]:
        """Those of that name."""
        return [span for span in self.spans if span.name == name]


@contextlib.asynccontextmanager
async def collecting(*statuses: int) -> AsyncIterator[Collector]:
    """On a free port."""
    collector = Collector(list(statuses))
    listener = socket.create_server(("127.0.0.1", 0))
    collector.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with served(collector, listener):
        yield collector
