"""Senders that dribble: each has to be cut, by the listener or by what waits for its body."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.fuzz.items import API, GATE, WEBHOOK, Facts, request
from tests.fuzz.mutated import signed
from tests.fuzz.wire import connected

DRIBBLE_S = 1.0
MARGIN_S = 20.0
READS_NOTHING = "reads nothing"
"""Asks for much more than buffers hold, and takes none of it."""


@dataclass(frozen=True)
class Slow:
    """One way to be slow."""

    door: str
    kind: str
    data: bytes
    """Sent at once."""
    within_s: float
    """It is cut after this time, at the latest."""
    refuse: bool = True


@dataclass
class Slowness:
    """What came of them."""

    cut: int = 0
    uncut: list[str] = field(default_factory=list)
    per_door: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    obeyed: list[str] = field(default_factory=list)
    longest_s: Counter[str] = field(default_factory=Counter)


def ways(facts: Facts, most_s: float) -> list[Slow]:
    """Those that are cut within `most_s`."""
    machine = facts.target.machine_id
    head = b" / HTTP/1.1\r\nHost: x\r\nX-Slow: "
    long = [(b"Content-Length", b"9000")]
    proof = [
        (b"X-Gitlab-Token", facts.secret.encode()),
        *signed(facts.signing, "msg_slow", facts.began, b"").items(),
    ]
    operator = [
        (b"Authorization", b"Bearer " + facts.operate_token.encode()),
        (b"Content-Type", b"application/json"),
    ]
    ask, act = f"/m/{machine}/api/v4/jobs/request".encode(), b"/api/v1/hosts/kvm-1/cordon"
    found = [
        Slow(WEBHOOK, "head", b"POST" + head, 10),
        Slow(API, "head", b"GET" + head, 10),
        Slow(WEBHOOK, "body", request(b"POST", b"/webhook", [*proof, *long]), 10),
        Slow(WEBHOOK, "stranger's body", request(b"POST", b"/webhook", long), 13),
        Slow(API, "body", request(b"POST", act, [*operator, *long]), 13),
        Slow(API, "stranger's body", request(b"POST", act, long), 13),
        Slow(GATE, "unknown machine", request(b"POST", b"/m/fr-000000000000/guest/ended", long), 13),
        Slow(WEBHOOK, READS_NOTHING, request(b"GET", b"/metrics", []) * 4000, 60, refuse=False),
        Slow(GATE, "head", b"POST" + head, 30),
        Slow(GATE, "silence", b"", 30),
        Slow(GATE, "body", request(b"POST", ask, long), 66),
    ]
    return [each for each in found if each.within_s <= most_s]


async def dribble(facts: Facts, slow: Slow, into: Slowness) -> None:
    """One of them, until it is cut."""
    wire, began = await connected(facts.port(slow.door)), time.monotonic()
    into.per_door[slow.door] += 1
    try:
        wire.send(slow.data)
        if slow.kind == READS_NOTHING:
            wire.read_nothing()
        while not wire.closed.is_set() and time.monotonic() - began < slow.within_s + MARGIN_S:
            if slow.kind != "silence":  # who reads nothing learns of its end by this, too
                wire.more(b"a")
            try:
                await asyncio.wait_for(wire.closed.wait(), DRIBBLE_S)
            except TimeoutError:
                continue
        took_s = time.monotonic() - began
        into.answers.update(wire.statuses)
        name = f"{slow.door}: {slow.kind}"
        into.longest_s[name] = max(into.longest_s[name], round(took_s))
        if slow.refuse and any(200 <= status < 400 for status in wire.statuses):
            into.obeyed.append(f"obeyed: slow {name}, {wire.statuses}")
        if wire.closed.is_set():
            into.cut += 1
        else:
            into.uncut.append(f"not cut: slow {name}, after {took_s:.0f} s")
    finally:
        wire.abort()


async def dribbling(facts: Facts, count: int, most_s: float, into: Slowness, enough: asyncio.Event) -> None:
    """So many at a time, anew until `enough`, and each to its end."""
    all_ways = ways(facts, most_s)

    async def again(number: int) -> None:
        while not enough.is_set():
            await dribble(facts, all_ways[number % len(all_ways)], into)
            number += count

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(again(number))
