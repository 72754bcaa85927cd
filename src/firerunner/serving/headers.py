"""Headers that every answer of the web listener carries, so that no browser makes more of it than it is."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def with_security_headers(app: ASGIApp, headers: Mapping[str, str] = SECURITY_HEADERS) -> ASGIApp:
    """`app`, whose answers all carry them, also those to errors. They win over the application's own."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    names = frozenset(name for name, _ in raw)

    async def headed(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_headed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [header for header in message.get("headers", ()) if header[0].lower() not in names]
                message = {**message, "headers": [*own, *raw]}
            await send(message)

        await app(scope, receive, send_headed)

    return headed
