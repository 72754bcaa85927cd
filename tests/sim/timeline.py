"""An event loop whose time jumps: where nothing is to be done now, it is the time of what comes next."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_EPOCH = 1_800_000_000.0
_BLOCKED_S = 30.0


class _Selector(selectors.DefaultSelector):
    """Looks for what is ready, and instead of waiting moves the loop's time on."""

    loop: TimelineLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.loop.in_threads:  # a disk is written: that takes no time here, but it has to be done
            return super().select(0.05)
        if timeout is None:
            ready = super().select(_BLOCKED_S)
            if not ready:
                raise RuntimeError("everybody waits for somebody else")
            return ready
        self.loop.now += timeout
        return []


class TimelineLoop(asyncio.SelectorEventLoop):
    """Sockets and threads work, and take no time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.in_threads = 0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Seconds since the loop was made, by its own reckoning."""
        return self.now

    def clock(self) -> float:
        """Unix seconds, by its own reckoning."""
        return _EPOCH + self.now

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        """As everywhere; time stands still meanwhile."""
        self.in_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._out_of_thread)
        return future

    def _out_of_thread(self, _: object) -> None:
        self.in_threads -= 1


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it to its end in a loop of its own."""
    with asyncio.Runner(loop_factory=TimelineLoop) as runner:
        return runner.run(work)


def timeline() -> TimelineLoop:
    """The running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, TimelineLoop)
    return loop
