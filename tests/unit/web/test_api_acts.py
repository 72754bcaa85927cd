"""What operators do through the API: it is written down first, then done; what is refused is neither."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

import pytest
from web_given import GONE, OPERATE, READ, A, Given, said

from firerunner.errors import LedgerError
from firerunner.ledger import HostUse

pytestmark = pytest.mark.anyio

WHO = sha256(OPERATE.encode()).hexdigest()[:8]


async def audit(given: Given) -> list[tuple[str, str, Any]]:
    entries = await given.ledger.journal(limit=1000)
    return [
        (entry.event, entry.subject, entry.detail) for entry in entries if entry.subject_kind == "operator"
    ]


@pytest.mark.parametrize(
    ("act", "use", "told"),
    [
        ("cordon", HostUse.CORDONED, "new kernel"),
        ("drain", HostUse.DRAINING, "new kernel"),
        ("uncordon", HostUse.NORMAL, ""),
        ("believe", HostUse.NORMAL, ""),
    ],
)
async def test_what_is_said_of_a_host_is_written_down_and_in_force(
    given: Given, act: str, use: HostUse, told: str
) -> None:
    answer = await given.act(f"hosts/kvm-1/{act}", reason="new kernel")

    order = (await given.ledger.host_orders())["kvm-1"]
    (entry, done) = await given.ledger.journal()
    assert (answer.status_code, answer.json()) == (200, {"act": act, "target": "kvm-1", "journal": entry.seq})
    assert (order.use, order.reason, order.believed_at is not None) == (use, told, act == "believe")
    detail = {"who": WHO, "client": "192.0.2.1", "target": "kvm-1", "reason": "new kernel"}
    assert await audit(given) == [(act, "kvm-1", detail)]
    assert entry.seq < done.seq


async def test_a_machine_is_given_up_for_a_reason(given: Given) -> None:
    await given.fill()

    answer = await given.act(f"machines/{A}/destroy", reason="it mines coins")

    assert answer.status_code == 202
    assert given.destroyed == [(A, "destroyed by an operator (it mines coins)")]
    detail = {"who": WHO, "client": "192.0.2.1", "target": A, "reason": "it mines coins"}
    assert await audit(given) == [("destroy", A, detail)]


async def test_the_client_behind_a_declared_proxy_is_the_one_written_down(given: Given) -> None:
    given.configure(trusted_proxies=("10.0.0.0/8",))
    forwarded = {"X-Forwarded-For": "6.6.6.6, 192.0.2.77"}

    await given.ask(
        "/api/v1/hosts/local/cordon",
        OPERATE,
        method="POST",
        json={"reason": "x"},
        headers=forwarded,
        peer="10.0.0.1",
    )

    ((_, _, detail),) = await audit(given)
    assert detail["client"] == "192.0.2.77"


@pytest.mark.parametrize("path", ["hosts/kvm-9/cordon", f"machines/{A}/destroy"])
async def test_what_there_is_not_is_not_found(given: Given, path: str) -> None:
    assert (await given.act(path)).status_code == 404
    assert await audit(given) == []
    assert given.counted("operate", 404) == 1


async def test_a_machine_that_is_gone_stays_so(given: Given) -> None:
    await given.fill()

    assert (await given.act(f"machines/{GONE}/destroy")).status_code == 202


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"reason": "x"}', "application/json", 200),
        (b'{"reason": "x"}', "application/json; charset=utf-8", 200),
        (b'{"reason": "x"}', "text/plain", 415),
        (b'{"reason": "x"}', "application/x-www-form-urlencoded", 415),
        (b'{"reason": "x"}', "multipart/form-data; boundary=application/json", 415),
        (b'{"reason": "x"}', "", 415),
        (b"reason=x", "application/json", 422),
        (b"", "application/json", 422),
        (b"null", "application/json", 422),
        (b"{}", "application/json", 422),
        (b'{"reason": ""}', "application/json", 422),
        (b'{"reason": 1}', "application/json", 422),
        (b'{"reason": "a\\u0000b"}', "application/json", 422),
        (b'{"reason": "a\\nb"}', "application/json", 422),
        (b'{"reason": "\\ud83d"}', "application/json", 422),
        (b'{"reason": "x", "\\ud83d": 1}', "application/json", 422),
        (b'{"reason": "x", "force": true}', "application/json", 422),
        (b'{"reason": "' + b"x" * 501 + b'"}', "application/json", 422),
        (b'{"reason": "' + b"x" * 20_000 + b'"}', "application/json", 413),
        (b"[" * 16_000, "application/json", 400),
        (b'{"reason": "\xff"}', "application/json", 400),
        (b'{"reason": 1' + b"0" * 5000 + b"}", "application/json", 400),
    ],
)
async def test_only_a_reason_is_taken_as_json(given: Given, body: bytes, kind: str, status: int) -> None:
    headers = {"Content-Type": kind} if kind else {}

    answer = await given.ask(
        "/api/v1/hosts/kvm-1/cordon", OPERATE, method="POST", content=body, headers=headers
    )

    assert answer.status_code == status, answer.text
    assert len(await audit(given)) == (status == 200)
    assert said(answer) if status != 200 else True
    assert "x" * 20 not in answer.text


async def test_a_compressed_body_is_refused(given: Given) -> None:
    headers = {"Content-Encoding": "gzip"}

    answer = await given.ask(
        "/api/v1/hosts/kvm-1/cordon", OPERATE, method="POST", json={"reason": "x"}, headers=headers
    )

    assert answer.status_code == 415


async def test_a_stranger_is_refused_before_anything_is_read(given: Given) -> None:
    """A framework would read the body first, however long."""
    status: list[int] = []
    sent = 0

    async def receive() -> dict[str, Any]:
        nonlocal sent
        assert status, "read before it was refused"
        sent += 1
        await asyncio.sleep(0)
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/hosts/kvm-1/cordon",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": ("192.0.2.1", 1),
    }
    await given.app(scope, receive, send)

    assert (status, sent) == ([401], 16)


async def test_what_cannot_be_written_down_is_not_done(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    await given.fill()

    async def broken(*arguments: Any) -> int:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(given.ledger, "note", broken)
    answer = await given.act(f"machines/{A}/destroy")

    assert (answer.status_code, said(answer)) == (503, "the disk is full")
    assert "Retry-After" in answer.headers
    assert given.destroyed == []


async def test_refused_acts_are_counted_and_not_written_down(given: Given) -> None:
    await given.act("hosts/kvm-1/cordon", READ)
    await given.act("hosts/kvm-1/cordon", "x" * 32)

    assert await given.ledger.journal() == []
    assert (given.counted("none", 403), given.counted("none", 401)) == (1, 1)
