"""Stands for leader, keeps the lease's heart beating, and knows at each moment whether it may still act.

A heart that has stood still for `SILENT_S`, by the watcher's own monotonic clock, is taken for dead. So the
leader acts outside only while its last beat is younger than that: one that was frozen finds out first.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from firerunner.errors import LedgerError, NotLeader
from firerunner.ledger import Lease, Ledger

BEAT_S = 1.5
LOOK_S = 1.0
SILENT_S = 6.0


class Leadership:
    """`won` gives the epoch in which we lead; then `keep` runs beside the work, and ends when it is lost."""

    def __init__(self, ledger: Ledger, holder: str, log: Any) -> None:
        self._ledger = ledger
        self._holder = holder
        self._log = log
        self._beat_at: float | None = None
        self._beating = asyncio.Lock()
        self.leader = ""
        """Who leads, as far as was seen last; empty if nobody does."""

    async def won(self, *, force: bool) -> int:
        """Wait until we lead. `force`: nobody else can. Raises LedgerError only if forced."""
        if force:
            epoch = await self._take(None, force=True)
            if epoch is not None:
                return epoch
        watched: Lease | None = None
        since = time.monotonic()
        while True:
            try:
                lease = await self._ledger.lease()
                self.leader = lease.holder if lease else ""
                if lease != watched:
                    watched, since = lease, time.monotonic()
                is_silent = time.monotonic() - since >= SILENT_S
                if lease is None or not lease.holder or is_silent:
                    epoch = await self._take(lease, force=False)
                    if epoch is not None:
                        return epoch
            except LedgerError as error:
                self._log.error("cannot look at the lease now", error=str(error))
            await asyncio.sleep(LOOK_S)

    async def _take(self, silent: Lease | None, *, force: bool) -> int | None:
        began = time.monotonic()
        try:
            epoch = await self._ledger.lead(self._holder, silent=silent, force=force)
        except NotLeader:
            return None
        self._beat_at, self.leader = began, self._holder
        self._log.info("leading", holder=self._holder, epoch=epoch)
        return epoch

    async def keep(self) -> None:
        """Beat for ever. Raises NotLeader when another leads."""
        while True:
            await asyncio.sleep(BEAT_S)
            try:
                await self._beat()
            except NotLeader:
                raise
            except LedgerError as error:
                self._log.error("the lease could not be renewed", error=str(error))

    async def assure(self) -> None:
        """Before anything is done outside: returns if we surely lead. Raises LedgerError, NotLeader."""
        if self._beat_at is None or time.monotonic() - self._beat_at >= SILENT_S:
            await self._beat()

    async def _beat(self) -> None:
        async with self._beating:
            began = time.monotonic()
            try:
                await self._ledger.lead(self._holder)
            except NotLeader:
                self._beat_at = None
                raise
            self._beat_at = began

    async def resign(self) -> None:
        """Let another lead at once."""
        self._beat_at = None
        try:
            await self._ledger.resign(self._holder)
        except LedgerError as error:
            self._log.warning("another will lead only after a while", error=str(error))
