"""Makes one wake of many hooks of a project: the first at once, those of a crowd ever less often.

GitLab sends several hooks for each job and a pipeline of a thousand jobs sends thousands; each wake costs an ask.
What comes after the first is told within a pause that begins short, so that a job that is created now and
pending a moment later does not wait, and doubles while hooks keep coming. A pause without one ends the crowd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from firerunner.intake.hooks import Hook

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
MOST_CROWDS = 4096
"""Projects at once; the hooks of more are told as they come."""

_Key = tuple[tuple[str, ...], int | None]


class Gatherer:
    """Stands between the door and whoever is woken. Belongs to one event loop."""

    def __init__(self, wake: Callable[[Hook], None]) -> None:
        self._wake = wake
        self._crowds: dict[_Key, Hook | None] = {}

    def hook(self, hook: Hook) -> None:
        """There may be work in its project. Never blocks; raises what `wake` raises."""
        key = (hook.gitlab, hook.project_id)
        if key in self._crowds:
            self._crowds[key] = hook
            return
        if len(self._crowds) < MOST_CROWDS:
            self._pause(key, FIRST_PAUSE_S)
        self._wake(hook)

    def _pause(self, key: _Key, pause_s: float) -> None:
        self._crowds[key] = None
        asyncio.get_running_loop().call_later(pause_s, self._over, key, pause_s)

    def _over(self, key: _Key, pause_s: float) -> None:
        hook = self._crowds.pop(key)
        if hook is not None:
            self._pause(key, min(2 * pause_s, LONGEST_PAUSE_S))
            self._wake(hook)
