"""Calls to GitLab as they leave and come back, below httpx's client.

Most of FireRunner speaks by httpx's client. The gate passes on what guests say, thousands of times, and for
that the client does too much: its cookies, redirects, credentials and URLs take a third of a trace patch's
time (docs/control-plane.md). Both go the same way, a `Carrier`; errors are httpx's in any case.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import httpx
from yarl import URL

RawHeaders = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One call."""

    method: str
    url: URL
    """Encoded already."""
    headers: RawHeaders
    """Without those of the body's framing, but for a `content-length` of a body in pieces."""
    body: bytes | AsyncIterator[bytes] | None
    timeout: httpx.Timeout


class Incoming(Protocol):
    """What came back, its body still to come."""

    @property
    def status(self) -> int:
        """HTTP's."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, whatever its case; of several of one name the first."""

    @property
    def raw_headers(self) -> RawHeaders:
        """As they came."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, not decompressed. Raises httpx's errors."""

    async def aclose(self) -> None:
        """Gives the connection back if the body has been read whole, else closes it."""


class Carrier(Protocol):
    """A way to servers."""

    async def carry(self, outgoing: Outgoing) -> Incoming:
        """Raises httpx's errors, and what the call's own body raises."""

    async def aclose(self) -> None:
        """Close all connections."""


class Http(httpx.AsyncClient):
    """httpx's client, whose requests go by a carrier that others may use, too."""

    def __init__(self, carrier: Carrier, **options: Any) -> None:
        super().__init__(transport=_ByCarrier(carrier), **options)
        self.carrier = carrier


class ByTransport:
    """A carrier by one of httpx's transports."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def carry(self, outgoing: Outgoing) -> Incoming:
        """As `Carrier` says."""
        request = httpx.Request(
            outgoing.method,
            str(outgoing.url),
            headers=list(outgoing.headers),
            content=outgoing.body,
            extensions={"timeout": outgoing.timeout.as_dict()},
        )
        return _FromHttpx(await self._transport.handle_async_request(request))

    async def aclose(self) -> None:
        """Close the transport."""
        await self._transport.aclose()


class _FromHttpx:
    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.raw_headers: RawHeaders = response.headers.raw

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in cast(httpx.AsyncByteStream, self._response.stream):
            yield piece

    async def aclose(self) -> None:
        await self._response.aclose()


class _ByCarrier(httpx.AsyncBaseTransport):
    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            body: bytes | AsyncIterator[bytes] | None = request.content or None
        except httpx.RequestNotRead:
            body = aiter(cast(httpx.AsyncByteStream, request.stream))
        incoming = await self._carrier.carry(
            Outgoing(
                request.method,
                URL(str(request.url), encoded=True),
                # The framing of a body without a length is the carrier's.
                [header for header in request.headers.raw if header[0].lower() != b"transfer-encoding"],
                body,
                httpx.Timeout(None, **request.extensions.get("timeout", {})),
            )
        )
        return httpx.Response(
            incoming.status,
            headers=list(incoming.raw_headers),
            stream=_Stream(incoming),
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def aclose(self) -> None:
        await self._carrier.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._incoming.pieces()

    async def aclose(self) -> None:
        await self._incoming.aclose()
