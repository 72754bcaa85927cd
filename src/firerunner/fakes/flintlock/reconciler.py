"""Brings microVMs to what their records say: one at a time, with retries, and again at each resync.

Follows Flintlock core/application/reconcile.go and core/plans: a VMM whose process has ended is started
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from firerunner.fakes.flintlock.records import CREATED, FAILED, Record
from firerunner.fakes.flintlock.validation import never_boots
from firerunner.fakes.flintlock.vmm import Vmm, VmmError

BACKOFF_S = 20.0
RESYNC_S = 600.0
MAXIMUM_RETRY = 10


class Reconciler:
    """The one worker of a daemon. `pace` is how much faster than real its waits are."""

    def __init__(self, store: dict[str, Record], vmm: Vmm, *, bridge: str, pace: float) -> None:
        self.pull_s: dict[str, float] = {}
        """Seconds that a pull of an image takes, by reference; at once if it is not named."""
        self._store = store
        self._vmm = vmm
        self._bridge = bridge
        self._pace = pace
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._timers: set[asyncio.TimerHandle] = set()

    def soon(self, uid: str) -> None:
        """An event says that the record has changed."""
        self._queue.put_nowait(uid)

    def resync(self) -> None:
        """Look at all of them."""
        for uid in self._store:
            self.soon(uid)

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        self._every(loop, RESYNC_S / self._pace, self.resync)
        try:
            while True:
                record = self._store.get(await self._queue.get())
                if record is not None:
                    await self._reconcile(record, loop)
        finally:
            for timer in self._timers:
                timer.cancel()

    def _every(self, loop: asyncio.AbstractEventLoop, pause_s: float, act: Callable[[], object]) -> None:
        def fire() -> None:
            act()
            self._every(loop, pause_s, act)

        self._timers = {timer for timer in self._timers if timer.when() > loop.time()}
        self._timers.add(loop.call_later(pause_s, fire))

    async def _reconcile(self, record: Record, loop: asyncio.AbstractEventLoop) -> None:
        if record.retry > MAXIMUM_RETRY:
            record.state = FAILED
            record.version += 1
            return
        if loop.time() < record.not_before:
            return
        if record.deleted:
            await self._vmm.remove(record)
            self._store.pop(record.uid, None)
            return
        try:
            if await self._bring_up(record):
                record.state, record.retry, record.not_before = CREATED, 0, 0.0
                record.version += 1
        except VmmError:
            record.retry += 1
            record.version += 1
            wait_s = record.retry * BACKOFF_S / self._pace
            record.not_before = loop.time() + wait_s
            # The real timer rounds down to seconds and fires a little later than `not_before`.
            self._timers.add(loop.call_later(wait_s + 0.01, self.soon, record.uid))

    async def _bring_up(self, record: Record) -> bool:
        """True if there was something to do."""
        if await self._vmm.alive(record):
            return False
        for image in (record.spec.kernel.image, record.spec.root_volume.source.container_source):
            if image in self.pull_s:
                await asyncio.sleep(self.pull_s[image])
        reason = never_boots(record, bridge=self._bridge)
        if reason is not None:
            raise VmmError(reason)
        if record.deleted:
            return False
        await self._vmm.start(record)
        return not record.deleted
