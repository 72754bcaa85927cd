"""`make soak JOBS=20000 SEED=7`: a long life with faults, under a clock that jumps.

The last line of standard output is one JSON object; the exit status is 0 only if nothing was lost, leaked or
run twice, and the memory did not grow.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import structlog

from tests.sim import timeline
from tests.soak.run import Soak, live

GROWTH_KIB = 10 * 1024
SAY_S = 10.0


def main() -> int:
    """As the module says."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began = said = time.monotonic()
    shown = {"wrong": 0}

    def say(soak: Soak) -> None:
        nonlocal said
        for line in (soak.lost + soak.twice + soak.killed)[shown["wrong"] :]:
            shown["wrong"] += 1
            print(line, file=sys.stderr, flush=True)
        if time.monotonic() - said > SAY_S:
            said = time.monotonic()
            rate = soak.ended / (said - began)
            print(
                f"{soak.ended} of {given.jobs} jobs, {soak.kills} kills, {soak.given_back} given back, "
                f"lost {len(soak.lost)}, twice {len(soak.twice)}, {rate:.0f} jobs/s",
                file=sys.stderr,
                flush=True,
            )

    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="firerunner-soak-", dir=place) as folder:
        soak = timeline.run(live(Path(folder) / "world", given.jobs, given.seed, say))
    report = report_of(soak, given.seed)
    print(json.dumps(report))
    return 0 if is_clean(report) else 1


def report_of(soak: Soak, seed: int) -> dict[str, object]:
    """The last line."""
    growth_kib = soak.rss_last_kib - soak.rss_first_kib
    seen = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(soak).items()}
    return seen | {
        "harness": "soak",
        "seed": seed,
        "tried": soak.ended,
        "lost": len(soak.lost),
        "twice": len(soak.twice),
        "leaked": len(soak.leaked),
        "killed": len(soak.killed),
        "rss_growth_kib": growth_kib,
        "grown": int(growth_kib > GROWTH_KIB),
        "what": (soak.lost + soak.twice + soak.leaked + soak.killed)[:20],
    }


def is_clean(report: dict[str, object]) -> bool:
    """True if all promises hold."""
    return not any(report[name] for name in ("lost", "twice", "leaked", "killed", "grown", "disrespected"))


if __name__ == "__main__":
    sys.exit(main())
