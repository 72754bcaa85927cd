"""Settings that change while the service runs: what may, what needs a restart, and when to look.

SIGHUP reads the configuration anew. A secret's file that has changed is read anew without being told,
with everything else as it was accepted last: tokens are rotated by programs, configurations edited by people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from firerunner.errors import FireRunnerError
from firerunner.settings import Settings, load_settings

FIXED = ("listen", "database", "state_dir", "image_dir", "hosts")
"""Sections that the service is built on; a change takes effect with the next start."""

LOOK_EVERY_S = 5.0

Apply = Callable[[Settings], Awaitable[None]]
"""Puts settings into force, or raises FireRunnerError and changes nothing."""


class Reloader:
    """Holds the settings in force."""

    def __init__(self, path: Path | None, settings: Settings, apply: Apply, log: Any) -> None:
        self._path = path
        self._apply = apply
        self._log = log
        self._asked = asyncio.Event()
        self._seen = _stamps(settings)
        self.settings = settings

    def request(self) -> None:
        """Read the configuration anew, soon."""
        self._asked.set()

    async def run(self) -> None:
        """Run for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._asked.wait()
            if self._asked.is_set():
                self._asked.clear()
                await self._renew("configuration", self._load)
            elif _stamps(self.settings) != self._seen:
                await self._renew("secrets", self.settings.reread)

    def _load(self) -> Settings:
        return self.settings.reread() if self._path is None else load_settings(self._path)

    async def _renew(self, what: str, read: Callable[[], Settings]) -> None:
        stamps = _stamps(self.settings)
        try:
            new = read()
            kept = {name: getattr(self.settings, name) for name in FIXED}
            waiting = [name for name, value in kept.items() if getattr(new, name) != value]
            new = new.with_sections(kept)
            await self._apply(new)
        except FireRunnerError as error:
            self._seen = stamps
            self._log.error("the new settings are not taken, the old ones stay", of=what, error=str(error))
            return
        old, self.settings, self._seen = self.settings, new, _stamps(new)
        changed = [name for name in type(new).model_fields if getattr(new, name) != getattr(old, name)]
        self._log.info("settings read anew", of=what, changed=changed)
        if waiting:
            self._log.warning("changed, but only in force after a restart", sections=waiting)


def _stamps(settings: Settings) -> dict[Path, tuple[int, int, int] | None]:
    """When each secret's file was last written; None where there is none."""
    stamps: dict[Path, tuple[int, int, int] | None] = {}
    for path in settings.secret_files:
        try:
            facts = path.stat()
        except OSError:
            stamps[path] = None
        else:
            stamps[path] = facts.st_mtime_ns, facts.st_size, facts.st_ino
    return stamps
