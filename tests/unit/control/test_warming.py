"""Warm machines in the whole loop: what the settings say reaches the plan, and the machines follow it."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from firerunner.control.warming import given, warm_rule
from firerunner.planning import Auto, Schedule, Window
from firerunner.settings import PoolSettings
from firerunner.settings.warm import WarmSettings

POOL = PoolSettings.model_validate({"name": "small", "runner_token": "glrt-x", "image": "base"})


def test_windows_reach_the_plan() -> None:
    window = {"days": ["sat", "sun"], "hours": "08:30-24:00", "zone": "Asia/Kolkata", "count": 4}
    settings = WarmSettings.model_validate({"count": 1, "schedule": [window]})

    expected = Window(frozenset({5, 6}), 510, 1440, ZoneInfo("Asia/Kolkata"), 4)
    assert warm_rule(settings) == Schedule(1, (expected,))
    assert warm_rule(WarmSettings(count=2)) == 2


def test_the_automatic_rule_reaches_the_plan() -> None:
    settings = WarmSettings.model_validate({"auto": {"misses": 0.2, "most": 7}})

    assert warm_rule(settings) == Auto(0.2, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"runner_config": "environment = ['A=1']"},
        {"proxy": {"url": "http://user:one@proxy:3128"}},
        {"docker_daemon": {"mtu": 1400}},
        {"egress": ["internet"]},
        {"max_job_time": 120},
    ],
)
def test_what_is_baked_in_at_boot_tells_one_set_from_another(change: dict[str, object]) -> None:
    small = {"name": "small", "runner_token": "glrt-x", "image": "base"}

    assert given(PoolSettings.model_validate(small | change)) != given(POOL)
    assert given(PoolSettings.model_validate(small | {"limit": 3, "runner_token": "glrt-y"})) == given(POOL)
