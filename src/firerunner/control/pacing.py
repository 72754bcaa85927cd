"""How long a look at everything rests: the more it costs, the longer."""

from __future__ import annotations

import asyncio
import time

REST = 30
"""A look takes at most one part in so many of the time."""

LONGEST_S = 10.0
"""But no rest is longer: a look that took long has mostly waited, for a database or a host."""


async def rest(wake: asyncio.Event, at_least_s: float, began: float) -> None:
    """Wait until it is time for the next look, or `wake` is set; clears it. `began`: time.monotonic()."""
    try:
        async with asyncio.timeout(pause_s(at_least_s, time.monotonic() - began)):
            await wake.wait()
    except TimeoutError:
        pass
    wake.clear()


def pause_s(at_least_s: float, took_s: float) -> float:
    """How long to rest after a look that took so long."""
    return max(at_least_s, min(REST * took_s, LONGEST_S))
