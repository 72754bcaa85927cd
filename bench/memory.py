"""memory: what one more machine costs the controller, with 1,000 and with 10,000 of them.

A ledger in its file has all of them busy. A process of its own (`memory_controller`) begins as a controller
does: it opens the ledger, makes the fleet that the plan keeps out of its records, and looks it through as
sweeps do. What it holds before it knows of a machine is taken off.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from bench.memory_controller import seed
from bench.rows import Goal, Row, measured
from firerunner.cli.output import errors

SIZES, ROUNDS = (1_000, 10_000), 5
AT_MOST_KIB = 8.0


async def measure() -> list[Row]:
    """Each size `ROUNDS` times, and none as often."""
    rows = []
    for size in SIZES:
        grown, peaks = [], []
        with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as folder:
            errors.print(f"memory: writing {size:,} machines")
            await seed(Path(folder), size)
            for _ in range(ROUNDS):
                told = await _controller(folder, size)
                grown.append((told["full_kib"] - told["empty_kib"]) / size)
                peaks.append(told["full_kib"] / 1024)
        goal = Goal("value", "<=", AT_MOST_KIB)
        rows += [
            measured(f"each of {size:,} machines", grown, unit="KiB", target=goal),
            measured("  the whole process", peaks, unit="MiB"),
        ]
    return rows


async def _controller(folder: str, size: int) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.memory_controller", folder, str(size)), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return dict(json.loads(out))
