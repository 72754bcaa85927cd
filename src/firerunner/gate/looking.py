"""An operator's look at a held machine: its guest asks for scripts, runs them, and gives what they print.

The guest asks and the gate answers, so nothing can connect to a guest. Scripts and what they print are in
memory only, because secrets of the job may be in them; the journal has who looked, by the operator API. What
is printed is the guest's word: the job may have left behind what answers in its place.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Final

from firerunner.gate.credentials import bearer, prove
from firerunner.gate.desk import Desk
from firerunner.gate.exchange import Exchange
from firerunner.gate.refusals import Kind, Refusal
from firerunner.ledger.records import MachineRecord
from firerunner.ledger.states import MachineState

_SAID: Final = re.compile(rb"(?P<number>[0-9]{1,9}) (?P<code>[0-9]{1,3})\n", re.DOTALL)
"""The first line of what a guest brings: which script, and its exit status."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a script has printed, standard output and error together, and its exit status."""

    exit_code: int
    output: bytes


@dataclass(slots=True)
class _Look:
    number: int
    script: str
    seen: asyncio.Future[Seen]


@dataclass(slots=True)
class _Door:
    """One held machine."""

    wish: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    now: _Look | None = None
    asks: int = 0
    """Asks of its guest that wait here."""


class Looks:
    """Belongs to the gate of one controller: a guest that asks at another one is not found here."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._doors: dict[str, _Door] = {}
        self._count = 0
        self._closing = False

    def open(self) -> None:
        """Serve."""
        self._closing = False

    def close(self) -> None:
        """Going down: asks that wait are answered with 503 at once, and so are all that still come."""
        self._closing = True
        for door in self._doors.values():
            door.wish.set()

    async def run(self, machine_id: str, script: str, timeout_s: float) -> Seen | None:
        """Have it run there; None if the guest brings nothing in that time. One after the other."""
        door = self._doors.setdefault(machine_id, _Door())
        try:
            async with asyncio.timeout(timeout_s), door.turn:
                self._count += 1
                door.now = _Look(self._count, script, asyncio.get_running_loop().create_future())
                door.wish.set()
                try:
                    return await door.now.seen
                finally:
                    door.now = None
                    door.wish.clear()
        except TimeoutError:
            return None
        finally:
            self._tidy(machine_id, door)

    async def ask(self, exchange: Exchange, machine_id: str) -> None:
        """A held guest brings what the last script has printed, and asks for the next one: 200 with its
        number in the first line, 204 if there is none for a while, 410 when the hold is over."""
        limits = self._desk.limits
        held = is_held(await prove(self._desk.ledger, machine_id, bearer(exchange)), self._desk.clock())
        said = await exchange.body(limits.json_body_bytes, limits.body_timeout_s)
        if not held:
            raise Refusal(410, Kind.NOT_HELD, "this machine is not held, or not any more")
        door = self._doors.setdefault(machine_id, _Door())
        door.asks += 1
        try:
            self._take(door, said)
            await _while(door.wish, limits.look_s)
            if self._closing:
                raise Refusal(503, Kind.STARTING, "the gate is going down", retry_after_s=1)
            look = door.now
            if look is None or look.seen.done():
                await exchange.answer(204)
                return
            body = f"{look.number}\n{look.script}\n".encode("utf-8", "replace")
            headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
            await exchange.answer(200, headers, body)
        finally:
            door.asks -= 1
            self._tidy(machine_id, door)

    def _take(self, door: _Door, said: bytes) -> None:
        found = _SAID.match(said)
        if said.strip() and found is None:
            raise Refusal(400, Kind.MALFORMED, "the body must begin with NUMBER CODE")
        look = door.now
        if found and look is not None and look.number == int(found["number"]) and not look.seen.done():
            look.seen.set_result(Seen(int(found["code"]), said[found.end() :]))
            door.wish.clear()

    def _tidy(self, machine_id: str, door: _Door) -> None:
        if not door.asks and door.now is None and not door.turn.locked():
            self._doors.pop(machine_id, None)


def is_held(machine: MachineRecord, now: float) -> bool:
    """Whether it is kept for a look at that time (Unix seconds)."""
    return machine.state is MachineState.BUSY and machine.held_until is not None and machine.held_until > now


async def _while(event: asyncio.Event, longest_s: float) -> None:
    try:
        async with asyncio.timeout(longest_s):
            await event.wait()
    except TimeoutError:
        pass
