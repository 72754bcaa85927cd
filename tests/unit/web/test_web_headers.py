"""Every answer of the web listener tells browsers to keep their hands off."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from web_given import READ, Given

from firerunner.serving.headers import SECURITY_HEADERS, with_security_headers

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", "/health", None, 200),
        ("GET", "/ready", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/webhook", None, 405),
        ("POST", "/webhook", None, 403),
        ("GET", "/nothing", None, 404),
        ("GET", "/openapi.json", None, 404),
        ("GET", "/docs", None, 404),
        ("DELETE", "/health", None, 405),
        ("GET", "/api/v1/jobs", None, 401),
        ("GET", "/api/v1/jobs", READ, 200),
        ("GET", "/api/v1/openapi.json", READ, 200),
        ("GET", "/api/v1/nothing", READ, 404),
        ("GET", "/api/v1", READ, 404),
        ("GET", "/api/v11", READ, 404),
        ("POST", "/api/v1/hosts/kvm-1/cordon", READ, 403),
    ],
)
async def test_all_answers_carry_them(
    given: Given, method: str, path: str, token: str | None, status: int
) -> None:
    answer = await given.ask(path, token, method=method)

    assert answer.status_code == status
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.get_list(name) == [value]


async def test_they_win_over_the_applications_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        own = [(b"Cache-Control", b"public"), (b"x-kept", b"1")]
        await send({"type": "http.response.start", "status": 500, "headers": own})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(with_security_headers(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        answer = await http.get("/")

    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers["x-kept"] == "1"
