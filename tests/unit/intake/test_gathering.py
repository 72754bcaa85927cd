"""Many hooks of a project become few wakes, and none is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from firerunner.intake import Gatherer, Hook
from firerunner.intake.gathering import CROWD, FIRST_PAUSE_S, FLOOD, LONGEST_PAUSE_S, MOST_CROWDS

OF_7 = Hook("build", 7, True, ("gitlab",))


class HeldLoop:
    """Timers that the test lets go off, and a clock that goes with them."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._made = 0

    def call_later(self, delay_s: float, callback: Callable[..., None], *args: Any) -> None:
        self._made += 1
        self._timers.append((self.now + delay_s, self._made, callback, args))

    def go_on(self, seconds: float) -> None:
        until = self.now + seconds
        while self._timers and min(self._timers)[0] <= until:
            due = min(self._timers)
            self._timers.remove(due)
            self.now = due[0]
            due[2](*due[3])
        self.now = until


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> HeldLoop:
    held = HeldLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: held)
    return held


def test_the_first_hook_wakes_at_once_and_only_once(loop: HeldLoop) -> None:
    woken: list[Hook] = []

    Gatherer(woken.append).hook(OF_7)
    loop.go_on(60.0)

    assert woken == [OF_7]


def test_a_hook_after_the_first_wakes_when_the_short_pause_is_over(loop: HeldLoop) -> None:
    woken: list[Hook] = []
    gatherer = Gatherer(woken.append)
    gatherer.hook(OF_7)

    gatherer.hook(OF_7)
    before = list(woken)
    loop.go_on(FIRST_PAUSE_S)

    assert (before, woken) == ([OF_7], [OF_7, OF_7])


def test_ten_thousand_hooks_of_a_project_wake_at_most_twenty_times(loop: HeldLoop) -> None:
    woken: list[float] = []
    gatherer = Gatherer(lambda hook: woken.append(loop.now))

    for _ in range(10_000):
        gatherer.hook(OF_7)
        loop.go_on(20.0 / 10_000)
    last_hook_at = loop.now
    loop.go_on(60.0)

    assert len(woken) <= 20
    assert woken[-1] >= last_hook_at - 20.0 / 10_000  # the last hook is told as well


@pytest.mark.parametrize(
    ("hooks", "times"), [(CROWD - 1, 1), (CROWD, 2), (FLOOD - 1, 2), (FLOOD, 4), (100 * FLOOD, 4)]
)
def test_the_more_hooks_come_in_a_pause_the_longer_is_the_next(
    loop: HeldLoop, hooks: int, times: int
) -> None:
    woken: list[float] = []
    gatherer = Gatherer(lambda hook: woken.append(loop.now))
    for _ in range(1 + hooks):
        gatherer.hook(OF_7)
    loop.go_on(FIRST_PAUSE_S)

    gatherer.hook(OF_7)
    loop.go_on(60.0)

    assert woken == pytest.approx([0.0, FIRST_PAUSE_S, (1 + times) * FIRST_PAUSE_S])


def test_a_pause_without_hooks_ends_the_crowd(loop: HeldLoop) -> None:
    woken: list[Hook] = []
    gatherer = Gatherer(woken.append)
    for _ in range(100):
        gatherer.hook(OF_7)
        loop.go_on(0.1)
    loop.go_on(2 * LONGEST_PAUSE_S)
    woken.clear()

    gatherer.hook(OF_7)

    assert woken == [OF_7]


def test_projects_and_gitlabs_do_not_wait_for_each_other(loop: HeldLoop) -> None:
    woken: list[Hook] = []
    gatherer = Gatherer(woken.append)
    others = [Hook("build", 8, True, ("gitlab",)), Hook("build", 7, True, ("other",))]

    for hook in (OF_7, *others):
        gatherer.hook(hook)

    assert woken == [OF_7, *others]


def test_hooks_of_too_many_projects_are_told_as_they_come(loop: HeldLoop) -> None:
    woken: list[Hook] = []
    gatherer = Gatherer(woken.append)
    for number in range(MOST_CROWDS):
        gatherer.hook(Hook("build", number, True, ("gitlab",)))
    late = Hook("build", MOST_CROWDS, True, ("gitlab",))

    gatherer.hook(late)
    gatherer.hook(late)

    assert woken[-2:] == [late, late]
