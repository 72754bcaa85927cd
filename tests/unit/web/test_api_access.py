"""Who gets into the API, with which right, and what everybody else is told."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from web_given import OPERATE, READ, Given, bearer, said

from firerunner.settings import ApiSettings

pytestmark = pytest.mark.anyio

READS = ("jobs", "machines", "hosts", "pools", "journal", "openapi.json")
HERE = "http://127.0.0.1:8080"


@pytest.mark.parametrize("path", [*READS, "nothing/of/the/kind", ""])
async def test_without_settings_all_of_it_is_closed_and_says_how_to_open_it(given: Given, path: str) -> None:
    given.configure(None, None)

    answers = [
        await given.ask(f"/api/v1/{path}", peer="127.0.0.1", url=HERE),
        await given.ask(f"/api/v1/{path}", OPERATE),
        await given.act(path),
    ]

    assert [answer.status_code for answer in answers] == [403] * 3
    assert all("api.read_token" in said(answer) for answer in answers)
    assert given.counted("none", 403) == 3


@pytest.mark.parametrize("path", READS)
async def test_either_token_reads(given: Given, path: str) -> None:
    assert (await given.ask(f"/api/v1/{path}", READ)).status_code == 200
    assert (await given.ask(f"/api/v1/{path}", OPERATE)).status_code == 200
    unknown = await given.ask(f"/api/v1/{path}")
    assert unknown.status_code == 401
    assert unknown.headers["WWW-Authenticate"] == 'Bearer realm="firerunner"'


async def test_only_the_operating_token_acts(given: Given) -> None:
    refused = await given.act("hosts/kvm-1/cordon", READ)
    stranger = await given.act("hosts/kvm-1/cordon", None)
    done = await given.act("hosts/kvm-1/cordon", OPERATE)

    assert [answer.status_code for answer in (refused, stranger, done)] == [403, 401, 200]
    assert 'error="insufficient_scope"' in refused.headers["WWW-Authenticate"]
    assert "api.operate_token" in said(refused)
    assert [entry.event for entry in await given.ledger.journal()] == ["cordon", "cordoned"]


async def test_without_an_operating_token_nobody_acts(given: Given) -> None:
    given.configure(READ, None)

    assert "set it" in said(await given.act("hosts/kvm-1/cordon", READ))
    assert (await given.act("hosts/kvm-1/cordon", OPERATE)).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Basic {READ}"},
        {"Authorization": READ},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {READ} {READ}"},
        {"Authorization": f"Bearer {READ}, Bearer {READ}"},
        {"Authorization": f"Bearer {READ}x"},
        {"Authorization": f"Bearer {READ[:-1]}"},
        {"Authorization": "Bearer é"},
        {"Cookie": f"token={READ}"},
        {"X-Api-Key": READ},
        {"PRIVATE-TOKEN": READ},
    ],
)
async def test_a_token_is_a_bearers_and_whole(given: Given, headers: dict[str, str]) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = await given.ask("/api/v1/jobs", headers=raw)

    assert answer.status_code == 401


async def test_a_token_in_the_address_is_none(given: Given) -> None:
    for name in ("access_token", "token", "private_token"):
        assert (await given.ask(f"/api/v1/jobs?{name}={READ}")).status_code == 401


async def test_two_authorizations_are_none(given: Given) -> None:
    both = [("Authorization", f"Bearer {READ}"), ("Authorization", f"Bearer {OPERATE}")]

    assert (await given.ask("/api/v1/jobs", headers=both)).status_code == 401


async def test_who_fails_too_often_waits_and_who_is_right_never_does(given: Given) -> None:
    given.configure(failures_per_minute=3)

    failures = [await given.ask("/api/v1/jobs", "x" * 32) for _ in range(5)]

    assert [answer.status_code for answer in failures] == [401, 401, 401, 429, 429]
    assert 0 < int(failures[-1].headers["Retry-After"]) <= 60
    assert (await given.ask("/api/v1/jobs", READ)).status_code == 200
    assert (await given.ask("/api/v1/jobs", "x" * 32, peer="192.0.2.2")).status_code == 401
    given.configure(failures_per_minute=3)
    assert (await given.ask("/api/v1/jobs")).status_code == 429


async def test_behind_a_declared_proxy_clients_are_told_apart(given: Given) -> None:
    given.configure(failures_per_minute=1, trusted_proxies=("10.0.0.1",))

    async def failing(client: str, peer: str) -> int:
        forwarded = {"X-Forwarded-For": client}
        return (await given.ask("/api/v1/jobs", "x" * 32, headers=forwarded, peer=peer)).status_code

    assert [await failing("192.0.2.7", "10.0.0.1"), await failing("192.0.2.8", "10.0.0.1")] == [401, 401]
    assert await failing("192.0.2.7", "10.0.0.1") == 429
    assert [await failing("192.0.2.9", "10.9.9.9"), await failing("192.0.2.10", "10.9.9.9")] == [401, 429]


@pytest.mark.parametrize(
    ("peer", "url"),
    [
        ("127.0.0.1", HERE),
        ("127.9.9.9", "http://localhost:8080"),
        ("::1", "http://[::1]:8080"),
        ("::ffff:127.0.0.1", HERE),
    ],
)
async def test_on_loopback_reading_needs_no_token_if_that_is_said(given: Given, peer: str, url: str) -> None:
    given.configure(None, None, loopback=True)

    assert (await given.ask("/api/v1/jobs", peer=peer, url=url)).status_code == 200
    acted = await given.ask(
        "/api/v1/hosts/kvm-1/cordon", method="POST", json={"reason": "x"}, peer=peer, url=url
    )
    assert acted.status_code == 403
    assert given.counted("loopback", 200) == 1


@pytest.mark.parametrize(
    "header",
    [
        *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Server", "Forwarded"),
        *(
            "X-Real-IP",
            "Via",
            "True-Client-IP",
            "CF-Connecting-IP",
            "X-Client-IP",
            "X-Original-Forwarded-For",
        ),
    ],
)
async def test_what_a_proxy_passes_on_is_not_from_here(given: Given, header: str) -> None:
    for loopback_only in (True, False):
        given.configure(None if loopback_only else READ, None, loopback=True)
        for value in ("127.0.0.1", "", "::1"):
            answer = await given.ask("/api/v1/jobs", headers={header: value}, peer="127.0.0.1", url=HERE)
            assert answer.status_code == (403 if loopback_only else 401)


@pytest.mark.parametrize(
    ("peer", "url"),
    [
        ("192.0.2.1", HERE),
        ("10.0.0.1", HERE),
        ("", HERE),
        ("127.0.0.1", "http://evil.example.com"),
        ("127.0.0.1", "http://127.0.0.1.example.com"),
        ("127.0.0.1", "http://192.0.2.1"),
    ],
)
async def test_nobody_else_is_from_here(given: Given, peer: str, url: str) -> None:
    given.configure(None, None, loopback=True, trusted_proxies=("192.0.2.1",))

    plain = await given.ask("/api/v1/jobs", peer=peer, url=url)
    spoofed = await given.ask("/api/v1/jobs", headers={"X-Forwarded-For": "127.0.0.1"}, peer=peer, url=url)

    assert [plain.status_code, spoofed.status_code] == [403, 403]
    assert "loopback" in said(plain)


async def test_on_loopback_a_wrong_token_is_still_wrong(given: Given) -> None:
    given.configure(loopback=True)

    assert (await given.ask("/api/v1/jobs", "x" * 32, peer="127.0.0.1", url=HERE)).status_code == 401
    assert (await given.ask("/api/v1/jobs", READ, peer="127.0.0.1", url=HERE)).status_code == 200


async def test_a_withdrawn_token_is_worth_nothing(given: Given) -> None:
    given.configure("n" * 32, OPERATE)

    assert (await given.ask("/api/v1/jobs", READ)).status_code == 401
    assert (await given.ask("/api/v1/jobs", "n" * 32)).status_code == 200


@pytest.mark.parametrize("token", ["short", "x" * 31, "x" * 31 + " ", "ä" * 32, "x" * 2000])
def test_a_token_that_could_be_guessed_is_refused_at_config_check(token: str) -> None:
    with pytest.raises(ValidationError, match="at least 32"):
        ApiSettings.model_validate({"read_token": token})


def test_the_tokens_must_differ() -> None:
    with pytest.raises(ValidationError, match="are the same"):
        ApiSettings.model_validate({"read_token": READ, "operate_token": READ})


async def test_health_readiness_and_metrics_stay_open(given: Given) -> None:
    given.configure(None, None)

    answers = [await given.ask(path) for path in ("/health", "/ready", "/metrics")]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert bearer(READ)["Authorization"] not in answers[2].text
