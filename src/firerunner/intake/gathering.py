"""Makes one wake of many hooks of a project: the first at once, those of a crowd ever less often.

GitLab sends several hooks for each job, and a pipeline of a thousand jobs sends thousands; a wake costs an
ask. What comes after the first is told within a pause that begins short, so that a job that is created now
and pending a moment later does not wait, and doubles while they come in crowds. A pause without one ends
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from firerunner.intake.hooks import Hook

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
CROWD = 5
"""So many hooks in one pause make the next one twice as long."""
FLOOD = 50
"""And so many, four times: an ask that finds nothing costs as much as thirty hooks."""
MOST_CROWDS = 4096
"""Projects at once; the hooks of more are told as they come."""

_Key = tuple[tuple[str, ...], int | None]


@dataclass(slots=True)
class _Pause:
    seconds: float
    hooks: int = 0
    latest: Hook | None = None


class Gatherer:
    """Stands between the door and whoever is woken. Belongs to one event loop."""

    def __init__(self, wake: Callable[[Hook], None]) -> None:
        self._wake = wake
        self._pauses: dict[_Key, _Pause] = {}

    def hook(self, hook: Hook) -> None:
        """There may be work in its project. Never blocks; raises what `wake` raises."""
        key = (hook.gitlab, hook.project_id)
        pause = self._pauses.get(key)
        if pause is not None:
            pause.latest = hook
            pause.hooks += 1
            return
        if len(self._pauses) < MOST_CROWDS:
            self._begin(key, FIRST_PAUSE_S)
        self._wake(hook)

    def _begin(self, key: _Key, seconds: float) -> None:
        self._pauses[key] = _Pause(seconds)
        asyncio.get_running_loop().call_later(seconds, self._over, key)

    def _over(self, key: _Key) -> None:
        pause = self._pauses.pop(key)
        if pause.latest is not None:
            longer = 4 if pause.hooks >= FLOOD else 2 if pause.hooks >= CROWD else 1
            self._begin(key, min(longer * pause.seconds, LONGEST_PAUSE_S))
            self._wake(pause.latest)
