"""Sends the requests, many at a time, and judges each answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fuzz.items import GATE, WEBHOOK, Facts, Item
from tests.fuzz.making import made
from tests.fuzz.wire import Wire, connected

WORKERS = 96
ANSWER_S = 30.0
"""For whoever has sent a whole request, or has said that nothing more comes."""
ODD_S = 2.0
CUT_S = 0.3
PIECE_S = 0.01
_NOT_OFFERED = 501
_SHOWN = 400
"""Bytes of a request in a finding."""


@dataclass
class Tally:
    """What came of it."""

    tried: int = 0
    per_door: Counter[str] = field(default_factory=Counter)
    per_kind: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    server_errors: int = 0
    obeyed: int = 0
    hurt: int = 0
    not_offered: int = 0
    unanswered: int = 0
    """Closed without an answer to what is no whole request."""
    findings: list[str] = field(default_factory=list)

    def told_answers(self) -> dict[str, int]:
        """By status."""
        return {str(status): count for status, count in sorted(self.answers.items())}

    def judge(self, index: int, item: Item, wire: Wire, *, in_time: bool) -> None:
        """One exchange that is over."""
        statuses = wire.statuses
        self.tried += 1
        self.per_door[item.door] += 1
        self.per_kind[item.kind] += 1
        self.answers.update(statuses)
        for status in statuses:
            if status == _NOT_OFFERED and item.door == GATE:
                self.not_offered += 1
            elif status >= 500:
                self.server_errors += 1
                self._found("server error", index, item, wire)
            elif status < 0:
                self.hurt += 1
                self._found("the answer is no HTTP", index, item, wire)
        if item.refuse and any(_lets_in(item, status) for status in statuses):
            self.obeyed += 1
            self._found("obeyed", index, item, wire)
        if not statuses:
            self.unanswered += 1
            if not in_time:
                self.hurt += 1
                self._found("neither answered nor cut", index, item, wire)
            elif item.whole:
                self.hurt += 1
                self._found("closed without an answer", index, item, wire)

    def _found(self, what: str, index: int, item: Item, wire: Wire) -> None:
        if len(self.findings) < 100:
            data = b"".join(item.pieces)
            more = f" and {len(data) - _SHOWN} bytes more" if len(data) > _SHOWN else ""
            said = f"{wire.statuses} {wire.raw!r}"
            self.findings.append(f"{what}: --only {index}, {item.kind}, {data[:_SHOWN]!r}{more}: {said}")


def _lets_in(item: Item, status: int) -> bool:
    """A redirect is an answer of substance but at the web's own paths, where it adds or takes a slash."""
    return status == 101 or 200 <= status < (300 if item.door == WEBHOOK else 400)


async def storm(
    seed: int, facts: Facts, indexes: Iterator[int], tally: Tally, workers: int = WORKERS
) -> None:
    """Send all of them."""
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(_work(seed, facts, indexes, tally))


async def _work(seed: int, facts: Facts, indexes: Iterator[int], tally: Tally) -> None:
    wires: dict[int, Wire] = {}
    try:
        for index in indexes:
            item = made(seed, index, facts)
            await send(index, item, facts, wires, tally)
    finally:
        for wire in wires.values():
            wire.abort()


async def send(index: int, item: Item, facts: Facts, wires: dict[int, Wire], tally: Tally) -> None:
    """One, on a connection that is open or on a new one."""
    port = facts.port(item.door)
    while True:
        wire = wires.pop(port, None)
        reused = wire is not None and wire.open
        if wire is None or not reused:
            if wire is not None:
                wire.abort()
            wire = await connected(port)
        in_time = await _exchange(wire, item)
        if wire.statuses or not reused or not wire.closed.is_set():
            break  # else it had been closed before it got this far
    tally.judge(index, item, wire, in_time=in_time)
    if wire.open and not item.ending and item.whole:
        wires[port] = wire
    else:
        wire.abort()


async def _exchange(wire: Wire, item: Item) -> bool:
    """False if it hung."""
    first, *rest = item.pieces
    wire.send(first, answers=item.answers, is_head=item.is_head)
    for piece in rest:
        await asyncio.sleep(PIECE_S)
        wire.more(piece)
    if item.ending == "half":
        with contextlib.suppress(OSError):
            wire.half_close()
    if item.whole or item.ending == "half":
        return await wire.answered(ANSWER_S)
    await wire.answered(CUT_S if item.ending == "cut" else ODD_S)
    return True
