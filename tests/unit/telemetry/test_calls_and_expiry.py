"""Calls are heard whoever makes them; certificates and tokens tell when they end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import structlog
from cryptography import x509

from firerunner.errors import SettingsError, Unreachable
from firerunner.expiring import expiry, look
from firerunner.fakes.gitlab import FakeGitLab, too_many_requests
from firerunner.gitlab import RestClient, new_http
from firerunner.gitlab.measured import Call
from firerunner.serving import Certificate
from firerunner.telemetry import Metrics
from firerunner.telemetry.catalogue import TOKEN
from tests.certificates import authority
from tests.unit.service.serving_given import serving

pytestmark = pytest.mark.anyio

LOG = structlog.get_logger()


@pytest.fixture
async def gitlab(tmp_path: Path) -> AsyncIterator[FakeGitLab]:
    async with FakeGitLab(tmp_path) as fake:
        yield fake


async def test_a_call_is_heard_with_its_answer_and_so_is_one_without(gitlab: FakeGitLab) -> None:
    heard: list[Call] = []
    gitlab.misbehave(too_many_requests("/api/v4/jobs/request", 5))

    async with new_http(heard=heard.append) as http:
        await http.post(f"{gitlab.url}/api/v4/jobs/request", json={})
        with pytest.raises(httpx.ConnectError):
            await http.put("http://127.0.0.1:9/api/v4/jobs/7", json={})

    assert [(call.endpoint, call.status, call.job) for call in heard] == [
        ("ask", 429, None),
        ("job_update", None, 7),
    ]


async def test_calls_of_a_user_are_heard_too(gitlab: FakeGitLab) -> None:
    heard: list[Call] = []
    rest = RestClient(gitlab.url, gitlab.api_token, heard=heard.append)
    nobody = RestClient("http://127.0.0.1:9", "glpat-x", heard=heard.append)

    await rest.version()
    with pytest.raises(Unreachable):
        await nobody.token()
    for client in (rest, nobody):
        await client.aclose()

    assert (heard[0].endpoint, heard[0].status) == ("rest", 200)
    assert {call.status for call in heard[1:]} == {None}


async def test_a_token_that_expires_is_shown_until_it_does_no_more(
    gitlab: FakeGitLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    rest = RestClient(gitlab.url, gitlab.api_token)
    token = rest.token

    async def expiring() -> object:
        facts = await token()
        return type(facts)(facts.name, facts.scopes, "2027-01-31")

    monkeypatch.setattr(rest, "token", expiring)
    assert await look("main", rest, metrics, LOG)
    shown = metrics.value(TOKEN, "main")
    monkeypatch.undo()
    assert await look("main", rest, metrics, LOG)
    assert await look("main", None, metrics, LOG)
    await rest.aclose()

    assert shown == datetime(2027, 1, 31, tzinfo=UTC).timestamp()
    assert metrics.value(TOKEN, "main") == 0


async def test_a_gitlab_that_cannot_be_asked_is_asked_again_soon() -> None:
    nobody = RestClient("http://127.0.0.1:9", "glpat-x")

    answered = await look("main", nobody, Metrics(), LOG)
    await nobody.aclose()

    assert answered is False


@pytest.mark.parametrize("text", [None, "", "soon"])
def test_no_date_is_no_expiry(text: str | None) -> None:
    assert expiry(text) is None


async def test_a_door_tells_when_the_certificate_ends_that_it_shows(tmp_path: Path) -> None:
    chain, key = authority(tmp_path).server(tmp_path, ["127.0.0.1"])
    until = x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc.timestamp()

    async with serving(certificate=Certificate(chain, key)) as here:
        chain.write_text("not yet written whole")
        with pytest.raises(SettingsError):
            here.handle.renew_certificate()

        assert here.handle.certificate_until == until
    async with serving() as here:
        assert here.handle.certificate_until is None
