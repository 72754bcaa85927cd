"""The webhook's door: who gets in, and what a hook can do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from firerunner.intake import Hook, create_intake
from firerunner.settings import WebhookSettings
from firerunner.telemetry import Counters
from firerunner.web import Readiness, create_web

pytestmark = pytest.mark.anyio
SECRET = {"X-Gitlab-Token": "s3cret"}
PENDING = {"object_kind": "build", "build_id": 91, "build_status": "pending", "project_id": 7, "runner": None}


class Door:
    """The real application with a list where the wake-ups arrive."""

    def __init__(self, settings: WebhookSettings) -> None:
        self.woken: list[Hook] = []
        self.counted: list[str] = []
        webhook = create_intake(settings, self.woken.append, self.counted.append)
        app = create_web(webhook, lambda: Readiness(ready=True, reasons={}, pools={}), Counters())
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door")


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door(WebhookSettings(secret=SecretStr("s3cret"), max_body=2048))
    async with door.http:
        yield door


async def test_a_pending_job_wakes(door: Door) -> None:
    answer = await door.http.post("/webhook", json=PENDING, headers=SECRET)

    assert answer.status_code == 200
    assert door.woken == [Hook("build", 7, True)]


async def test_a_pipeline_hook_wakes(door: Door) -> None:
    body = {"object_kind": "pipeline", "object_attributes": {"status": "pending"}, "project": {"id": 9}}

    await door.http.post("/webhook", json=body, headers=SECRET)

    assert door.woken == [Hook("pipeline", 9, True)]


@pytest.mark.parametrize("token", [None, "", "s3cre", "s3cret ", "S3CRET"])
async def test_a_wrong_secret_is_refused(door: Door, token: str | None) -> None:
    headers = {} if token is None else {"X-Gitlab-Token": token}

    answer = await door.http.post("/webhook", json=PENDING, headers=headers)

    assert answer.status_code == 401
    assert door.woken == []
    assert door.counted == ["unauthenticated"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"object_kind": 4}', json.dumps({"object_kind": "note"}).encode()],
)
async def test_an_authentic_hook_gets_2xx_whatever_is_in_it(door: Door, body: bytes) -> None:
    answer = await door.http.post("/webhook", content=body, headers=SECRET)

    assert answer.status_code == 200
    assert door.woken == []


async def test_a_large_body_is_refused_while_it_is_read(door: Door) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b"x" * 1024

    answer = await door.http.post("/webhook", content=endless(), headers=SECRET)

    assert answer.status_code == 413
    assert door.counted == ["too_large"]


async def test_a_compressed_body_is_refused(door: Door) -> None:
    answer = await door.http.post("/webhook", content=b"x", headers=SECRET | {"Content-Encoding": "gzip"})

    assert answer.status_code == 413


async def test_without_a_secret_the_door_is_closed() -> None:
    door = Door(WebhookSettings())

    async with door.http:
        answer = await door.http.post("/webhook", json=PENDING)

    assert answer.status_code == 403
    assert door.woken == []


async def test_insecure_must_be_said(door: Door) -> None:
    door = Door(WebhookSettings(insecure=True))

    async with door.http:
        answer = await door.http.post("/webhook", json=PENDING)

    assert answer.status_code == 200
    assert len(door.woken) == 1
