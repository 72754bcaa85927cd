"""`python -m bench [NAME ...] [--rounds N]`: prints tables, writes JSON and plots to `bench/out`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import plot, report
from bench.facts import machine_facts
from bench.rows import Row
from firerunner.cli.output import errors
from firerunner.errors import FireRunnerError
from firerunner.telemetry import configure_logs

BENCHES = ("pickup", "answer", "density", "churn", "burst", "plan", "gate", "hook", "memory")
OUT = Path(__file__).parent / "out"
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line says."""

    names: tuple[str, ...]
    rounds: int | None
    """None: as many as the bench has by itself."""


class CannotRun(FireRunnerError):
    """A bench is asked for what it does not do."""


def read(arguments: Sequence[str]) -> Order:
    """The order. Ends the program with status 2 if it cannot be understood."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, as ratios within one run.")
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)}; none: all")
    parser.add_argument("--rounds", type=int, metavar="N", help="so many rounds instead of the bench's own")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.name) - set(BENCHES))
    if unknown:
        parser.error(f"no bench is called {unknown[0]}; there are: {', '.join(BENCHES)}")
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds: at least 1")
    return Order(tuple(given.name) or BENCHES, given.rounds)


def main(arguments: Sequence[str]) -> int:
    """Exit status 0 if every goal was met, 1 if not or if a bench could not run, 130 after Ctrl-C."""
    order = read(arguments)
    configure_logs("warning", "console")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    OUT.mkdir(exist_ok=True)
    fine = True
    try:
        for name in order.names:
            fine = _one(name, order.rounds) and fine
    except KeyboardInterrupt:
        errors.print("interrupted; what was measured before is in bench/out")
        return INTERRUPTED
    return 0 if fine else 1


def _one(name: str, rounds: int | None) -> bool:
    """Run one bench and keep what it found. False if a goal was not met, or if it could not run."""
    for old in OUT.glob(f"{name}.*"):
        old.unlink()  # an earlier run's figures must not pass for this one's
    began = time.monotonic()
    try:
        facts, rows = asyncio.run(_measure(name, rounds))
    except (FireRunnerError, OSError, TimeoutError) as error:
        errors.print(f"{name} cannot run: {error}", markup=False)
        return False
    except Exception:
        errors.print(f"{name} broke off:\n{traceback.format_exc()}", markup=False)
        return False
    document = report.document(name, facts, rows, time.monotonic() - began)
    report.write(OUT / f"{name}.json", document)
    plot.write(OUT / f"{name}.svg", name, rows)
    report.show(name, rows)
    return all(row.ok is not False for row in rows)


async def _measure(name: str, rounds: int | None) -> tuple[report.Facts, list[Row]]:
    measure = importlib.import_module(f"bench.{name}").measure
    if rounds is not None and "rounds" not in inspect.signature(measure).parameters:
        raise CannotRun(f"{name} has rounds of its own", remedy="Leave out --rounds")
    load = os.getloadavg()[0]
    if load > len(os.sched_getaffinity(0)) / 2:
        errors.print(f"{name}: this computer is busy (load {load:.1f}); figures will differ from run to run")
    rows = await (measure() if rounds is None else measure(rounds=rounds))
    return await machine_facts() | {"load_before": load}, rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
