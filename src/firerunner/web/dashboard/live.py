"""Keeps open pages up to date: one look at the ledger for all viewers, and to each what has changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from typing import Protocol

import structlog

from firerunner.errors import FireRunnerError
from firerunner.web.dashboard.text import plain
from firerunner.web.dashboard.views import View, change

MOST_VIEWERS = 64
LOOK_EVERY_S = 1.0
SHARE = 10
"""A look that takes long is followed by a pause so many times as long."""
HEARTBEAT_S = 15.0
"""How often each viewer is told that all is well, if they still may look: also one for whom much changes."""
FULL_AGAIN_S = 15


class Reads(Protocol):
    """Where views come from."""

    async def views(self, names: Collection[str]) -> Mapping[str, View | None]:
        """Those of this moment; None for what there is not. Raises FireRunnerError."""
        ...


class Live:
    """Looks while somebody looks at it."""

    def __init__(self, reader: Reads, look_every_s: float = LOOK_EVERY_S) -> None:
        self._reader = reader
        self._look_every_s = look_every_s
        self._watched: Counter[str] = Counter()
        self._views: Mapping[str, View | None] = {}
        self._trouble = ""
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        self._begun = self._done = 0
        self._log = structlog.get_logger("firerunner.dashboard")

    @property
    def viewers(self) -> int:
        """How many streams there are."""
        return self._watched.total()

    async def aclose(self) -> None:
        """End all streams: their browsers come back, to the next run."""
        self._closed = True
        self._tell()
        if self._looking is not None:
            self._looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._looking

    async def stream(self, name: str, have: str, may: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
        """Server-sent events for a page that shows version `have` of the view; ends when all is said.

        `may` says whether the viewer still may look.
        """
        if self.viewers >= MOST_VIEWERS:
            yield event("full", "", retry_s=FULL_AGAIN_S)
            return
        with self._seat(name):
            fresh = self._begun + 1  # what was seen before is older than the page
            yield b"retry: 1000\n\n"
            shown: View | None = None
            trouble = ""
            loop = asyncio.get_running_loop()
            judged = loop.time()
            while not self._closed:
                changed = self._changed
                if loop.time() - judged >= HEARTBEAT_S:
                    judged = loop.time()
                    if not may():
                        yield event("leave", "")
                        return
                    yield event("well", "")
                if self._trouble != trouble:
                    trouble = self._trouble
                    yield event("trouble", plain(trouble))
                if name in self._views and self._done >= fresh:
                    view = self._views[name]
                    if view is None:
                        yield event("leave", "")
                        return
                    told = first(view, have) if shown is None else change(shown, view)
                    if told is not None:
                        yield event("change", told, view.version)
                    shown = view
                await _happened(changed, judged + HEARTBEAT_S - loop.time())

    @contextlib.contextmanager
    def _seat(self, name: str) -> Iterator[None]:
        self._watched[name] += 1
        self._hurry.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            yield
        finally:
            self._watched[name] -= 1
            if self._watched[name] == 0:
                del self._watched[name]

    async def _look(self) -> None:
        """While there is somebody."""
        loop = asyncio.get_running_loop()
        while self._watched:
            somebody_new = self._hurry.is_set()
            self._hurry.clear()
            self._begun += 1
            began = loop.time()
            try:
                views = await self._reader.views(set(self._watched))
                trouble = ""
            except FireRunnerError as error:
                views, trouble = dict(self._views), error.message
            except Exception as error:
                self._log.error("the dashboard cannot be kept up to date", error=str(error), exc_info=error)
                views, trouble = dict(self._views), "something is wrong here: see the log of the service"
            old, self._views = self._views, views
            self._done = self._begun
            if somebody_new or trouble != self._trouble or _differ(old, views):
                self._trouble = trouble
                self._tell()
            took = loop.time() - began
            await asyncio.sleep(took)  # also if somebody new is in a hurry
            await _happened(self._hurry, max(self._look_every_s, SHARE * took) - took)
        self._views = {}

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def first(view: View, have: str) -> str | None:
    """What a page needs that comes with the version `have`."""
    return None if view.version == have else view.whole


def event(kind: str, data: str, number: str = "", *, retry_s: int = 0) -> bytes:
    """One server-sent event; `data` is one line."""
    lines = [f"event: {kind}", f"data: {data}"]
    lines += [f"id: {number}"] if number else []
    lines += [f"retry: {retry_s * 1000}"] if retry_s else []
    return ("\n".join(lines) + "\n\n").encode(errors="replace")


def _differ(old: Mapping[str, View | None], new: Mapping[str, View | None]) -> bool:
    if old.keys() != new.keys():
        return True
    return any(_version(old[name]) != _version(new[name]) for name in new)


def _version(view: View | None) -> str:
    return "" if view is None else view.version


async def _happened(what: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await what.wait()
    except TimeoutError:
        return False
    return True
