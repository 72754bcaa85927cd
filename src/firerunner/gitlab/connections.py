"""A carrier by aiohttp's connections, which take a fifth of the time of httpx's own.

httpcore looks at each idle connection for each request, asks each time which event loop library runs, and
parses in Python (docs/control-plane.md has the figures). aiohttp's parser is C, its pool gives out a
connection at once.

What a connection pool must not do here is switched off: no cookies, no redirects, no decompression, no
proxy or netrc of the environment, and no second try (an ask or a report is repeated by who knows what it
means).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Final

import aiohttp
import httpx
from aiohttp import hdrs
from multidict import CIMultiDict

from firerunner.gitlab.carrying import Incoming, Outgoing, RawHeaders

_PIECE_BYTES = 256 * 1024
_HEADER_BYTES = 64 * 1024
"""Of one header: object storage signs long URLs."""

_OURS: Final = frozenset({hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE})
"""aiohttp adds none of these by itself."""

_TURNS = 2
"""Of the event loop before a connection is chosen. What the server has closed meanwhile is seen by then and
not used: else a request would be lost on it. (httpcore looks at the socket for that.)"""


class Connections:
    """To servers that are reached without a proxy. Opened at the first call."""

    def __init__(self, trust: ssl.SSLContext, limits: httpx.Limits) -> None:
        self._trust = trust
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def carry(self, outgoing: Outgoing) -> Incoming:
        """As `Carrier` says."""
        if self._session is None:
            self._session = self._open()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        if outgoing.body is None or isinstance(outgoing.body, bytes):
            try:
                response = await self._say(self._session, outgoing, outgoing.body)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _translated(error) from error
            return _Answer(response)
        body = _Body(outgoing.body, outgoing.timeout.write)
        try:
            async with asyncio.timeout(None) as patience:
                body.patience = patience
                response = await self._say(self._session, outgoing, body.pieces())
                body.patience = None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if body.failed is not None:
                raise body.failed from None
            if patience.expired():
                raise httpx.WriteTimeout("the server does not read") from error
            raise _translated(error) from error
        return _Answer(response, body)

    async def _say(
        self, session: aiohttp.ClientSession, outgoing: Outgoing, data: bytes | AsyncIterator[bytes] | None
    ) -> aiohttp.ClientResponse:
        timeout = outgoing.timeout
        return await session.request(
            outgoing.method,
            outgoing.url,
            headers=CIMultiDict(
                (name.decode("ascii"), value.decode("latin-1")) for name, value in outgoing.headers
            ),
            data=data,
            allow_redirects=False,
            timeout=_patience(timeout.pool, timeout.connect, timeout.read),
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
    """A call's body, and the error by which it broke off: aiohttp would hide it behind its own.

    aiohttp has no time-out for a server that does not read; `patience` is one, as long as it is set.
    """

    def __init__(self, given: AsyncIterator[bytes], write_s: float | None) -> None:
        self.failed: Exception | None = None
        self.patience: asyncio.Timeout | None = None
        self._given = given
        self._write_s = write_s

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._given:
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


class _Answer:
    """Satisfies `Incoming`."""

    def __init__(self, response: aiohttp.ClientResponse, body: _Body | None = None) -> None:
        self._response = response
        self._body = body
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.raw_headers: RawHeaders = response.raw_headers

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if self._body is not None and self._body.failed is not None:
                raise self._body.failed from None
            raise _translated(error, reading=True) from error

    async def aclose(self) -> None:
        if self._response.content.is_eof():
            self._response.release()
        else:
            self._response.close()


@lru_cache(maxsize=16)
def _patience(pool_s: float | None, connect_s: float | None, read_s: float | None) -> aiohttp.ClientTimeout:
    connect = _sum(pool_s, connect_s)
    return aiohttp.ClientTimeout(total=None, connect=connect, sock_connect=connect_s, sock_read=read_s)


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
