"""Which headers pass the gate. Pure.

From the guest an allow list: it may not slip other credentials past us, nor cookies. Towards the guest
everything but what belongs to the one connection (RFC 9110, 7.6.1), to the server, or to a browser.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from firerunner.gate.refusals import Kind, Refusal

RawHeaders = list[tuple[bytes, bytes]]

_PASS_UP: Final = frozenset(
    {
        b"accept",
        b"accept-encoding",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"if-range",
        b"job-token",
        b"range",
        b"user-agent",
        b"x-request-id",
    }
)

_HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_KEPT_BACK: Final = _HOP_BY_HOP | {
    b"set-cookie",
    b"alt-svc",
    b"strict-transport-security",
    b"date",
    b"server",
}

_QUERY: Final = frozenset(
    {
        "accessibility",
        "artifact_format",
        "artifact_type",
        "debug_trace",
        "direct_download",
        "expire_in",
    }
)
"""What gitlab-runner puts into the query of job calls (network/gitlab.go), and `accessibility`
of the API. Rails reads tokens and ids out of the query too, so nothing else passes."""


def upwards(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    return [(name, value) for name, value in headers if name.lower() in _PASS_UP]


def downwards(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    headers = list(headers)
    named = {
        one.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for one in value.split(b",")
    }
    kept_back = _KEPT_BACK | named
    return [(name.lower(), value) for name, value in headers if name.lower() not in kept_back]


@lru_cache(maxsize=64)  # guests say the same few
def check_query(query: bytes) -> None:
    """Raises `Refusal` if there is a parameter that the runner does not use."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except (UnicodeDecodeError, ValueError):
        raise Refusal(400, Kind.MALFORMED, "the query cannot be read") from None
    foreign = sorted({key for key, _ in pairs} - _QUERY)
    if foreign:
        raise Refusal(400, Kind.MALFORMED, f"the query parameter {foreign[0][:40]!r} is not allowed here")


def without_direct_download(query: bytes) -> bytes:
    """For guests that do not reach GitLab's object storage: let GitLab stream the file itself."""
    return b"&".join(part for part in query.split(b"&") if not part.startswith(b"direct_download="))
