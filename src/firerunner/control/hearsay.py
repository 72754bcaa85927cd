"""What the gate and the webhook's door of one controller have heard, carried to the one that leads.

A controller that leads is told by calls; one that does not writes signals into the ledger. A signal that is
lost costs time only: what matters in it is in the ledger as well, or comes again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, get_args

from firerunner.errors import LedgerError
from firerunner.gate import GateEvent
from firerunner.intake import Hook
from firerunner.ledger import Clock, Ledger

SPOKE_EVERY_S = 5.0
HOOK_PAUSE_S = 0.5
"""A project's hooks of this long become one signal."""
MAX_WAITING = 10_000
"""Signals that a database which cannot be written is waited for with; more are dropped."""

GATE, HOOK, SPOKE = "gate", "hook", "spoke"
_EVENTS: Mapping[str, type] = {each.__name__: each for each in get_args(GateEvent)}

Spoken = Mapping[str, tuple[float, float]]
"""Machine id → how long ago, in seconds, its runner spoke, and GitLab answered it."""


class Teller:
    """Writes signals. `gate_event` and `hook` never block."""

    def __init__(self, ledger: Ledger, spoken: Callable[[], Spoken], log: Any) -> None:
        self._ledger = ledger
        self._spoken = spoken
        self._log = log
        self._waiting: dict[tuple[str, str], dict[str, Any]] = {}
        self._news = asyncio.Event()

    def gate_event(self, event: GateEvent) -> None:
        """The gate has seen something and written it into the ledger."""
        self._add(GATE, {"event": type(event).__name__, **dataclasses.asdict(event)})

    def hook(self, hook: Hook) -> None:
        """There may be work. Twice the same is told once."""
        self._add(HOOK, dataclasses.asdict(hook))

    def _add(self, kind: str, body: dict[str, Any]) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting[kind, str(sorted(body.items()))] = body
            self._news.set()

    async def run(self) -> None:
        """Run for ever."""
        while True:
            try:
                async with asyncio.timeout(SPOKE_EVERY_S):
                    await self._news.wait()
            except TimeoutError:
                if spoken := self._spoken():
                    self._add(SPOKE, {machine: list(ages) for machine, ages in spoken.items()})
            self._news.clear()
            has_hooks = any(kind == HOOK for kind, _ in self._waiting)
            await self._send()
            if has_hooks:
                await asyncio.sleep(HOOK_PAUSE_S)

    async def _send(self) -> None:
        batch, self._waiting = self._waiting, {}  # the same again while it is written is for the next batch
        for key in list(batch):
            try:
                await self._ledger.send_signal(key[0], batch[key])
                del batch[key]
            except LedgerError as error:
                self._log.warning("the leader cannot be told now", error=str(error))
                self._waiting = batch | self._waiting
                await asyncio.sleep(HOOK_PAUSE_S)
                self._news.set()
                return


class Hearer:
    """Reads signals, for the leader."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        on_gate: Callable[[GateEvent], None],
        on_hook: Callable[[Hook], None],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._on_gate = on_gate
        self._on_hook = on_hook
        self._spoke: dict[str, tuple[float, float]] = {}

    def spoke_at(self, machine_id: str) -> float:
        """When the machine's runner spoke to another controller's gate (Unix seconds); 0 if never."""
        return self._spoke.get(machine_id, (0.0, 0.0))[0]

    def heard_at(self, machine_id: str) -> float:
        """When GitLab last answered it there (Unix seconds); 0 if never."""
        return self._spoke.get(machine_id, (0.0, 0.0))[1]

    async def listen(self) -> None:
        """Take in what has come. Raises LedgerError."""
        for kind, body in await self._ledger.receive_signals():
            if kind == GATE and body["event"] in _EVENTS:
                self._on_gate(_EVENTS[body.pop("event")](**body))
            elif kind == HOOK:
                self._on_hook(Hook(**(body | {"gitlab": tuple(body["gitlab"])})))
            elif kind == SPOKE:
                now = self._clock()
                ages = {machine: (now - spoke, now - heard) for machine, (spoke, heard) in body.items()}
                self._spoke = dict(list((self._spoke | ages).items())[-MAX_WAITING:])
