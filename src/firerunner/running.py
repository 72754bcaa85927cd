"""Runs a coroutine as a program on uvloop, whose loop and sockets cost less than asyncio's own.

For the service only: keepers, commands and tests stay on asyncio's loop, tests because theirs has a clock of
its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
