"""Who leads, when a heart stands still, and what one controller tells another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from firerunner.clock import SteadyClock
from firerunner.control import hearsay, leadership
from firerunner.control.hearsay import Hearer, Teller
from firerunner.control.leadership import SILENT_S, Leadership
from firerunner.errors import NotLeader
from firerunner.gate import GateEvent, GuestEnded, JobFinal
from firerunner.intake import Hook
from firerunner.ledger import Keyring, Ledger

pytestmark = pytest.mark.anyio

LOG = structlog.get_logger("test")


class Monotonic:
    """The monotonic clock, which a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def ledger(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}", Keyring.generate(), time.time)
    yield opened
    await opened.aclose()


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> Monotonic:
    moved = Monotonic()
    monkeypatch.setattr(leadership, "time", SimpleNamespace(monotonic=moved))
    monkeypatch.setattr(leadership, "LOOK_S", 0.01)
    return moved


async def test_a_heart_that_beats_is_not_replaced_and_one_that_stands_still_is(
    ledger: Ledger, monotonic: Monotonic
) -> None:
    first, second = Leadership(ledger, "first", LOG), Leadership(ledger, "second", LOG)
    assert await first.won(force=False) == 1
    waiting = asyncio.create_task(second.won(force=False))

    for _ in range(4):
        await asyncio.sleep(0.05)
        monotonic.now += SILENT_S / 2
        await first.assure()
        await ledger.lead("first")
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert second.leader == "first"

    monotonic.now += SILENT_S
    assert await waiting == 2


async def test_who_resigns_is_replaced_at_once(ledger: Ledger, monotonic: Monotonic) -> None:
    first, second = Leadership(ledger, "first", LOG), Leadership(ledger, "second", LOG)
    await first.won(force=False)

    await first.resign()

    assert await second.won(force=False) == 2


async def test_one_that_was_frozen_asks_the_ledger_before_it_acts(
    ledger: Ledger, monotonic: Monotonic
) -> None:
    first, second = Leadership(ledger, "first", LOG), Leadership(ledger, "second", LOG)
    await first.won(force=False)
    await first.assure()

    monotonic.now += SILENT_S
    await first.assure()  # nobody else leads: one more beat, and it goes on
    assert (await ledger.lease()).beats == 1

    monotonic.now += SILENT_S
    await second.won(force=True)
    with pytest.raises(NotLeader):
        await first.assure()
    with pytest.raises(NotLeader):
        await first.assure()


async def test_the_leader_hears_what_others_are_told(ledger: Ledger) -> None:
    heard: list[Any] = []
    clock = SteadyClock()
    teller = Teller(ledger, lambda: {"fr-a": (5.0, 7.0)}, LOG)
    hearer = Hearer(ledger, clock, heard.append, heard.append)
    events: list[GateEvent] = [JobFinal(7, "fr-a", "failed", "script_failure", 1), GuestEnded("fr-a", None)]
    telling = asyncio.create_task(teller.run())
    hook = Hook("build", 11, True, ("gitlab",))
    for event in events:
        teller.gate_event(event)
    for _ in range(100):
        teller.hook(hook)
    while len(heard) < 3:
        await asyncio.sleep(0.01)
        await hearer.listen()
    telling.cancel()

    assert heard == [*events, hook]
    await ledger.send_signal("spoke", {"fr-a": [5.0, 7.0]})
    await ledger.send_signal("gate", {"event": "OfANewerVersion"})
    await hearer.listen()
    assert clock() - hearer.spoke_at("fr-a") == pytest.approx(5.0, abs=1.0)
    assert clock() - hearer.heard_at("fr-a") == pytest.approx(7.0, abs=1.0)
    assert hearer.spoke_at("fr-b") == 0.0


@pytest.mark.parametrize(("pause_s", "told_again"), [(3600.0, False), (0.01, True)])
async def test_hooks_of_one_project_become_one_signal_in_a_pause(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, pause_s: float, told_again: bool
) -> None:
    monkeypatch.setattr(hearsay, "HOOK_PAUSE_S", pause_s)
    teller = Teller(ledger, dict, LOG)
    telling = asyncio.create_task(teller.run())
    hook = Hook("build", 11, True, ("gitlab",))
    signals: list[Any] = []
    teller.hook(hook)
    while not signals:
        await asyncio.sleep(0.01)
        signals = await ledger.receive_signals()
    for _ in range(40):
        teller.hook(hook)
        await asyncio.sleep(0.002)
    later = await ledger.receive_signals()
    while told_again and not later:
        await asyncio.sleep(0.01)
        later = await ledger.receive_signals()
    telling.cancel()

    assert len(signals) == 1
    assert bool(later) is told_again


def test_nobody_moves_a_steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SteadyClock()
    before, true_time = clock(), time.time

    monkeypatch.setattr(time, "time", lambda: true_time() + 3600.0)

    assert clock() - before < 60.0
    assert clock.moved_s() == pytest.approx(3600.0, abs=60.0)
    clock.set(5.0)
    assert clock() == pytest.approx(5.0, abs=60.0)
