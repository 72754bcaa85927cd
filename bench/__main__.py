"""`python -m bench [NAME]`: runs one bench or all, prints a table, writes `bench/out/NAME.json`."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from bench.rows import Row
from firerunner.cli.output import errors, print_table
from firerunner.telemetry import configure_logs

BENCHES = ("pickup", "answer", "density", "burst", "plan")
OUT = Path(__file__).parent / "out"


def main() -> int:
    """Exit status 0 if every goal was met, 1 if not, 2 for a name that is none."""
    wanted = sys.argv[1:] or list(BENCHES)
    unknown = set(wanted) - set(BENCHES)
    if unknown:
        errors.print(f"no bench is called {min(unknown)}; there are: {', '.join(BENCHES)}")
        return 2
    configure_logs("warning", "console")
    OUT.mkdir(exist_ok=True)
    met = True
    for name in wanted:
        rows: list[Row] = asyncio.run(importlib.import_module(f"bench.{name}").measure())
        (OUT / f"{name}.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
        print_table(
            name,
            ("measure", "value", "floor", "ratio", "goal", "met"),
            [
                (
                    row.measure,
                    f"{row.value:.3f}",
                    "" if row.floor is None else f"{row.floor:.3f}",
                    "" if row.ratio is None else f"{row.ratio:.2f}",
                    row.goal,
                    {True: "yes", False: "NO", None: ""}[row.ok],
                )
                for row in rows
            ],
        )
        met = met and all(row.ok is not False for row in rows)
    return 0 if met else 1


sys.exit(main())
