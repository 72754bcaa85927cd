"""How long a look at everything rests: the more it costs, the longer."""

from __future__ import annotations

import asyncio
import time

REST = 30
"""A look takes at most one part in so many of the time."""


async def rest(wake: asyncio.Event, at_least_s: float, began: float) -> None:
    """Wait until it is time for the next look, or `wake` is set; clears it. `began`: time.monotonic()."""
    try:
        async with asyncio.timeout(max(at_least_s, REST * (time.monotonic() - began))):
            await wake.wait()
    except TimeoutError:
        pass
    wake.clear()
