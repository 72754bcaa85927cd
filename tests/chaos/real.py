"""Deaths with real microVMs: the demo's jobs run, and the service is killed when its journal says a thing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import Callable

from firerunner.building import build
from firerunner.demo.play import Play, Result
from firerunner.demo.stage import Stage, cache_dir, demo_recipe, set_up
from firerunner.demo.verdict import Outcome, complaints
from firerunner.errors import LedgerError
from firerunner.images import Store
from firerunner.ledger import JournalEntry

DEATHS_PER_RUN = 7
PATIENCE_S = 25.0
"""After so long without the row that it waits for, the service dies all the same."""
LOOK_S = 0.01

Add = Callable[[int, list[str], list[str], list[str]], None]
Say = Callable[[str], None]

ROWS: tuple[tuple[str, str | None], ...] = (
    ("reserved", "reserved"),
    ("answer kept", None),
    ("taken", "taken"),
    ("moved", "assigned"),
    ("moved", "creating"),
    ("create", "intended"),
    ("create", "done"),
    ("moved", "booting"),
    ("moved", "waiting"),
    ("moved", "busy"),
    ("moved", "delivered"),
    ("moved", "running"),
    ("moved", "ended"),
    ("guest ended", None),
    ("moved", "failed"),
    ("moved", "returned"),
    ("moved", "retiring"),
    ("destroy", "intended"),
    ("destroy", "done"),
    ("room released", None),
    ("manager removed", None),
)
"""Event and new state of the journal's rows, in about the order of a machine's life."""


async def play_real(deaths: int, seed: int, add: Add, say: Say) -> None:
    """So many deaths, spread over runs of the demo; `add` is told of each run."""
    store = Store(cache_dir() / "images")
    image = await build(demo_recipe(None), store)
    chance, left = random.Random(seed), deaths
    rows = chance.sample(ROWS, len(ROWS))
    while left > 0:
        count = min(left, DEATHS_PER_RUN)
        targets = [rows[(deaths - left + number) % len(rows)] for number in range(count)]
        left -= count
        async with set_up(
            cache_dir() / "images", image.manifest.digest, restart_after_s=0.0, api_token=True
        ) as it:
            killing = asyncio.create_task(_kill(it, targets, say))
            result = await Play(it, lambda rows: None).run()
            killing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await killing
            died = it.service.restarts
        add(died, *judged(result))
        say(f"real microVMs: {died} deaths more, {deaths - left} of {deaths}")


async def _kill(stage: Stage, targets: list[tuple[str, str | None]], say: Say) -> None:
    for target in targets:
        row = await _row(stage, target)
        pid = stage.service.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            seen = row.subject if row else "(not seen)"
            say(f"real microVMs: killed at {target[0]} {target[1] or ''} {seen}")
        while stage.service.pid in {pid, None}:
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(1.0)


async def _row(stage: Stage, target: tuple[str, str | None]) -> JournalEntry | None:
    """The next row of that kind."""
    last = await stage.ledger.last_journal(limit=1)
    after = last[-1].seq if last else 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                with contextlib.suppress(LedgerError):
                    for entry in await stage.ledger.journal(after):
                        after = entry.seq
                        if (entry.event, entry.to_state) == target:
                            return entry
                await asyncio.sleep(LOOK_S)
    return None


def judged(result: Result) -> tuple[list[str], list[str], list[str]]:
    """Lost, twice, leaked; times do not count, for a service that is not there keeps none."""
    outcomes = [outcome for outcome in result.outcomes if not _lost_in_window(outcome)]
    said = complaints(outcomes, result.observed, result.nonce)
    lost = [sentence for sentence in said if " took " not in sentence and "two jobs" not in sentence]
    twice = [sentence for sentence in said if "two jobs" in sentence]
    twice += [
        f"{each.name} was handed out {each.handed_out} times" for each in outcomes if each.handed_out > 1
    ]
    leaked = [] if result.leftovers.none else [str(result.leftovers)]
    return lost, twice, leaked


def _lost_in_window(outcome: Outcome) -> bool:
    """Found by look-up, cancelled, and run again as the next of its name."""
    return outcome.status == "canceled" and outcome.machine is None and not outcome.trace
