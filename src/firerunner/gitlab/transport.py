"""httpx's requests carried by aiohttp's connections, which take a fifth of the time of httpx's own.

httpx stays what the rest of FireRunner speaks: its requests, its responses, its errors. Below it, httpcore
looks at each idle connection for each request, asks each time which event loop library runs, and parses in
Python (docs/control-plane.md has the figures). aiohttp's parser is C, its pool gives out a connection at
once.

What a connection pool must not do here is switched off: no cookies, no redirects, no decompression, no
proxy or netrc of the environment, and no second try (an ask or a report is repeated by who knows what it
means).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Final, cast

import aiohttp
import httpx
from aiohttp import hdrs
from multidict import CIMultiDict
from yarl import URL

_PIECE_BYTES = 256 * 1024
_HEADER_BYTES = 64 * 1024
"""Of one header: object storage signs long URLs."""

_OURS: Final = frozenset({hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE})
"""aiohttp adds none of these by itself."""

_TURNS = 2
"""Of the event loop before a connection is chosen. What the server has closed meanwhile is seen by then and
not used: else a request would be lost on it. (httpcore looks at the socket for that.)"""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Connections to servers that are reached without a proxy. Opened at the first request."""

    def __init__(self, trust: ssl.SSLContext, limits: httpx.Limits) -> None:
        self._trust = trust
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx's errors, and what the request's own body raises."""
        if self._session is None:
            self._session = self._open()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        told = request.extensions.get("timeout", {})
        body = _Body(request, told.get("write"))
        try:
            async with asyncio.timeout(None) as patience:
                body.patience = patience
                response = await self._session.request(
                    request.method,
                    URL(str(request.url), encoded=True),
                    headers=_headers(request),
                    data=body.data,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        total=None,
                        connect=_sum(told.get("pool"), told.get("connect")),
                        sock_connect=told.get("connect"),
                        sock_read=told.get("read"),
                    ),
                )
                body.patience = None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if body.failed is not None:
                raise body.failed from None
            if patience.expired():
                raise httpx.WriteTimeout("the server does not read") from error
            raise _translated(error) from error
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Stream(response, body),
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=self._trust,
            limit=self._limits.max_connections or 0,
            keepalive_timeout=self._limits.keepalive_expiry,
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_OURS,
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_PIECE_BYTES,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )
        # Without this a call by an idempotent method would be sent again on a new connection.
        session._retry_connection = False
        return session


class _Body:
    """A request's body, and the error by which it broke off: aiohttp would hide it behind its own.

    aiohttp has no time-out for a server that does not read; `patience` is one, as long as it is set.
    """

    def __init__(self, request: httpx.Request, write_s: float | None) -> None:
        self.failed: Exception | None = None
        self.patience: asyncio.Timeout | None = None
        self._write_s = write_s
        self._stream = request.stream
        try:
            self.data: bytes | AsyncIterator[bytes] | None = request.content or None
        except httpx.RequestNotRead:
            self.data = self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in cast(httpx.AsyncByteStream, self._stream):
                self._expect(self._write_s)
                yield piece
                self._expect(None)
        except Exception as error:
            self.failed = error
            raise

    def _expect(self, seconds: float | None) -> None:
        """The piece is to be taken by then; None: nobody waits for that now."""
        if self.patience is not None:
            now = asyncio.get_running_loop().time()
            self.patience.reschedule(None if seconds is None else now + seconds)


class _Stream(httpx.AsyncByteStream):
    """A response's body as it comes."""

    def __init__(self, response: aiohttp.ClientResponse, body: _Body) -> None:
        self._response = response
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if self._body.failed is not None:
                raise self._body.failed from None
            raise _translated(error, reading=True) from error

    async def aclose(self) -> None:
        """Gives the connection back if the body has been read whole, else closes it."""
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()


def _headers(request: httpx.Request) -> CIMultiDict[str]:
    """As they are, but for the framing of a body without a length, which is aiohttp's."""
    return CIMultiDict(
        (name.decode("ascii"), value.decode("latin-1"))
        for name, value in request.headers.raw
        if name.lower() != b"transfer-encoding"
    )


def _sum(*seconds: float | None) -> float | None:
    return None if None in seconds else sum(each for each in seconds if each is not None)


def _translated(error: Exception, *, reading: bool = False) -> httpx.HTTPError:
    """The httpx error of the same meaning."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            kind: type[httpx.TransportError] = httpx.ConnectTimeout
        case TimeoutError():
            kind = httpx.ReadTimeout
        case aiohttp.ClientConnectorError():
            kind = httpx.ConnectError
        case aiohttp.ServerDisconnectedError():
            kind = httpx.RemoteProtocolError
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            kind = httpx.RemoteProtocolError
        case aiohttp.InvalidURL():
            kind = httpx.UnsupportedProtocol
        case _:
            kind = httpx.ReadError
    return kind(str(error))
