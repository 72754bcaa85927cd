"""What is no HTTP, or HTTP that two servers could read in two ways."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.fuzz.items import API, DOORS, GATE, WEBHOOK, WRONG, Facts, Item, chunked, request

TLS = bytes.fromhex("160301020001" + "0001fc0303") + b"\x11" * 200
H2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)
ACT = b"/api/v1/hosts/kvm-1/cordon"


def malformed(chance: random.Random, facts: Facts) -> Item:
    """At any door."""
    door = chance.choice(DOORS)
    return chance.choice(_ALL)(chance, facts, door)


def _target(chance: random.Random, facts: Facts, door: str) -> tuple[bytes, bytes]:
    machine = f"/m/{facts.target.machine_id}".encode()
    return {
        WEBHOOK: (b"POST", b"/webhook"),
        API: (b"POST", ACT),
        GATE: (b"POST", machine + chance.choice((b"/guest/ended", b"/api/v4/jobs/request"))),
    }[door]


def _garbage(chance: random.Random, facts: Facts, door: str) -> Item:
    data = chance.choice(
        (
            chance.randbytes(chance.randrange(1, 3000)),
            TLS,
            H2,
            b"\x00" * 500,
            b"GET\r\n\r\n",
            b"\r\n" * 2000,
            b"GET /health\r\n",
            b"GET  /health  HTTP/1.1\r\n\r\n",
            b"get /health http/1.1\r\n\r\n",
            b"A" * 70_000,
            b"GET /health HTTP/1.1\nHost: x\n\n",
            b"GET /health HTTP/9.9\r\n\r\n",
            b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /health HTTP/1.1\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
            b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n",
            b"* /health HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
        )
    )
    return Item(door, "garbage", (data,), refuse=False, whole=False, ending="half")


def _flood(chance: random.Random, facts: Facts, door: str) -> Item:
    method, target = _target(chance, facts, door)
    count, size = chance.choice(((101, 3), (2000, 20), (50, 4000), (1, 100_000)))
    headers = [(b"X-%d" % number, b"v" * size) for number in range(count)]
    return Item(door, "header flood", (request(method, target, headers, b"{}"),), whole=False, ending="cut")


def _chunks(chance: random.Random, facts: Facts, door: str) -> Item:
    method, target = _target(chance, facts, door)
    body, size = chance.choice(
        ((b"{}" * 500, 1), (b"x" * 200_000, 50), (b"", 1), (b"x" * 2_000_000, 100_000))
    )
    headers = [(b"Transfer-Encoding", b"chunked")]
    if door == WEBHOOK and chance.random() < 0.5:  # read to its end, as far as it may go
        headers += [
            (b"X-Gitlab-Token", facts.secret.encode()),
            (b"webhook-id", b"1"),
            (b"webhook-timestamp", b"1"),
        ]
        headers.append((b"webhook-signature", b"v1," + b"A" * 43 + b"="))
    data = request(method, target, headers) + chunked(body, size)
    return Item(door, "chunk flood", (data,), whole=False, ending="cut")


def _bad_chunks(chance: random.Random, facts: Facts, door: str) -> Item:
    method, target = _target(chance, facts, door)
    body = chance.choice(
        (
            b"-1\r\nx\r\n0\r\n\r\n",
            b"zz\r\nx\r\n",
            b"ffffffffffffffffffff\r\nx",
            b"5\r\nx\r\n0\r\n\r\n",
            b"1;" + b"e" * 70_000,
            b"1 \r\nx\r\n0\r\n\r\n",
            b"0x1\r\nx\r\n0\r\n\r\n",
            b"1\nx\n0\n\n",
            b"0\r\nTrailer: x\r\n" * 3 + b"\r\n",
            b"\r\n\r\n",
        )
    )
    data = request(method, target, [(b"Transfer-Encoding", b"chunked")]) + body
    return Item(door, "bad chunks", (data,), whole=False, ending=chance.choice(("half", "cut")))


def _pipeline(chance: random.Random, facts: Facts, door: str) -> Item:
    method, target = _target(chance, facts, door)
    count = chance.choice((2, 5, 40))
    harmless = b"/health" if door != GATE else b"/m/x"
    data = b"".join(request(b"GET", harmless, []) for _ in range(count))
    data += request(method, target, [(b"Authorization", b"Bearer " + WRONG.encode())], b"{}")
    return Item(door, "pipeline", (data,), refuse=door == GATE, whole=False, ending="cut", answers=count + 1)


def _smuggled(chance: random.Random, facts: Facts, door: str) -> Item:
    """A second request in what may be the first one's body."""
    method, target = _target(chance, facts, door)
    inner = request(b"POST", ACT, [(b"Content-Type", b"application/json")], b'{"reason": "smuggled"}')
    framings = (
        [(b"Content-Length", b"0"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"%d" % (len(inner) + 5))],
        [(b"Transfer-Encoding", b"xchunked"), (b"Content-Length", b"5")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"identity")],
        [(b"Transfer-Encoding ", b"chunked")],
        [(b"Transfer-Encoding", b"\x0bchunked")],
        [(b"Content-Length", b"5"), (b"Content-Length", b"0")],
        [(b"Content-Length", b"5, 5")],
        [(b"Content-Length", b"-5")],
        [(b"Content-Length", b"0x5")],
        [(b"Content-Length", b"5\xa0")],
        [(b"X", b"y\r\nContent-Length: 0\r\n\r\n" + inner)],
        [(b"X", b"y\n\n" + inner)],
    )
    data = request(method, target, chance.choice(framings)) + b"0\r\n\r\n" + inner
    return Item(door, "smuggled", (data,), whole=False, ending="cut", answers=2)


def _half(chance: random.Random, facts: Facts, door: str) -> Item:
    """Some of a request, and then the end, or the sender is gone."""
    method, target = _target(chance, facts, door)
    data = request(method, target, [(b"Content-Type", b"application/json")], b'{"token": "x", "reason": "y"}')
    at = chance.randrange(1, len(data))
    return Item(door, "half", (data[:at],), whole=False, ending=chance.choice(("half", "cut")))


def _torn(chance: random.Random, facts: Facts, door: str) -> Item:
    """In pieces."""
    method, target = _target(chance, facts, door)
    data = request(method, target, [(b"Content-Type", b"application/json")], b'{"token": "x", "reason": "y"}')
    cuts = sorted(chance.randrange(len(data)) for _ in range(4))
    pieces = tuple(data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True))
    return Item(door, "torn", pieces)


_ALL: tuple[Callable[[random.Random, Facts, str], Item], ...] = (
    _garbage,
    _flood,
    _chunks,
    _bad_chunks,
    _pipeline,
    _smuggled,
    _half,
    _torn,
    _garbage,
    _half,
)
