"""`make chaos N=1000 SEED=7 REAL=20`: the service dies at N points; the world is checked each time.

The last line of standard output is one JSON object; the exit status is 0 only if nothing was lost, leaked or
run twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.chaos.real import play_real
from tests.chaos.scenario import WINDOW, Verdict
from tests.chaos.workers import quiet, scenario

FIRST_POINTS = 8
"""So many scenarios without a death tell which points there are."""


def main() -> int:
    """As the module says."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--n", type=int, default=1000, help="deaths in the simulation")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--real", type=int, default=20, help="deaths with real microVMs")
    given = parser.parse_args()
    total = Total()
    with tempfile.TemporaryDirectory(prefix="firerunner-chaos-", dir=_fast()) as folder:
        simulate(Path(folder), given.n, given.seed, total)
    if given.real:
        asyncio.run(play_real(given.real, given.seed, total.add_real, _say))
    print(json.dumps(total.report(given.n, given.seed, given.real)))
    return 0 if total.is_clean else 1


class Total:
    """What all scenarios together have shown."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.twice: list[str] = []
        self.leaked: list[str] = []
        self.killed_jobs: list[str] = []
        self.killed: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.aimed: Counter[str] = Counter()
        """How often a scenario was to die there; not all come so far."""
        self.in_window = self.found = self.real_deaths = self.scenarios = 0

    def add(self, seed: int, verdict: Verdict) -> None:
        """One scenario's verdict."""
        self.scenarios += 1
        for name in ("lost", "twice", "leaked", "killed"):
            found = [f"seed {seed}, killed at {verdict.killed_at}: {each}" for each in getattr(verdict, name)]
            getattr(self, "killed_jobs" if name == "killed" else name).extend(found)
            for line in found:
                _say(f"{name}: {line}")
        self.killed.update(verdict.killed_at)
        self.points.update(verdict.points)
        self.in_window += verdict.in_window
        self.found += verdict.found

    def add_real(self, deaths: int, lost: list[str], twice: list[str], leaked: list[str]) -> None:
        """One run with real microVMs."""
        self.real_deaths += deaths
        self.lost += lost
        self.twice += twice
        self.leaked += leaked

    @property
    def is_clean(self) -> bool:
        """True if all promises hold."""
        return not (self.lost or self.twice or self.leaked) and self.in_window == self.found

    def report(self, n: int, seed: int, real: int) -> dict[str, Any]:
        """The last line."""
        return {
            "harness": "chaos",
            "seed": seed,
            "tried": sum(self.killed.values()) + self.real_deaths,
            "simulated_deaths": sum(self.killed.values()),
            "simulated_deaths_wanted": n,
            "real_deaths": self.real_deaths,
            "real_deaths_wanted": real,
            "scenarios": self.scenarios,
            "points_known": len(self.points),
            "points_killed_at": len(self.killed),
            "deaths_in_window": sum(self.killed[name] for name in WINDOW),
            "jobs_lost_in_window": self.in_window,
            "jobs_found_by_look_up": self.found,
            "lost": len(self.lost),
            "twice": len(self.twice),
            "leaked": len(self.leaked),
            "killed": len(self.killed_jobs),
            "what": (self.lost + self.twice + self.leaked)[:20],
        }


def simulate(folder: Path, n: int, seed: int, total: Total) -> None:
    """Die `n` times: at each point that is known in turn, at its first time, its second, and so on."""
    chance, number, began = random.Random(seed), 0, time.monotonic()
    template = _template(folder)
    fresh = multiprocessing.get_context("spawn")  # a fork would have the ledger's threads without their lives
    with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=fresh, initializer=quiet) as pool:
        plans: list[tuple[int, list[Any]]] = [(seed * 100_000 + i, []) for i in range(FIRST_POINTS)]
        while plans:
            work = [
                (folder / str(number + i), one, deaths, template) for i, (one, deaths) in enumerate(plans)
            ]
            for (one, _), verdict in zip(plans, pool.map(scenario, work, chunksize=2), strict=True):
                total.add(one, verdict)
            number += len(plans)
            dead = sum(total.killed.values())
            rate = dead / max(time.monotonic() - began, 0.001)
            _say(f"{dead} of {n} deaths, at {len(total.killed)} of {len(total.points)} points, {rate:.1f}/s")
            plans = _plans(chance, seed * 100_000 + number, min(n - dead, 64), total)


def _plans(chance: random.Random, first: int, left: int, total: Total) -> list[tuple[int, list[Any]]]:
    """The points that have been died at least often come first; every third dies while it recovers, too."""
    names = sorted(total.points, key=lambda name: (total.aimed[name], chance.random()))
    plans: list[tuple[int, list[Any]]] = []
    while left > 0:
        name = names[len(plans) % len(names)]
        total.aimed[name] += 1
        often = max(1, total.points[name] // max(total.scenarios, 1))
        deaths: list[Any] = [(name, chance.randrange(1, often + 1))]
        if left > 1 and chance.random() < 0.34:
            deaths.append(chance.randrange(1, 60))
        left -= len(deaths)
        plans.append((first + len(plans), deaths))
    return plans


def _template(folder: Path) -> Path:
    """An empty ledger, made once: its tables take longer than a scenario."""
    path = folder / "empty.db"
    _run_empty(path)
    return path


def _run_empty(path: Path) -> None:
    from firerunner.ledger import Keyring, Ledger

    async def make() -> None:
        ledger = await Ledger.open(f"sqlite:///{path}", Keyring.generate(), time.time)
        await ledger.aclose()

    asyncio.run(make())


def _fast() -> str | None:
    """Memory, if there is some: the simulation writes a lot, and its disks need not outlive it."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
