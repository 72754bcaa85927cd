"""What a pool's settings mean for its warm machines: their number, and what is baked into them."""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

from firerunner.planning import Auto, Schedule, WarmRule, Window
from firerunner.settings import PoolSettings
from firerunner.settings.warm import DAYS, WarmSettings

BAKED = ("egress", "proxy", "ca_file", "docker_daemon", "max_job_time")


def warm_rule(warm: WarmSettings) -> WarmRule:
    """The settings as the plan takes them."""
    if warm.auto is not None:
        return Auto(warm.auto.misses, warm.auto.most)
    if not warm.schedule:
        return warm.count
    windows = tuple(
        Window(frozenset(map(DAYS.index, each.days)), *each.minutes, ZoneInfo(each.zone), each.count)
        for each in warm.schedule
    )
    return Schedule(warm.count, windows)


def given(pool: PoolSettings) -> bytes:
    """All that a machine is given before it waits, besides its size and image. There are secrets in it."""
    plain = pool.model_dump(mode="json", include=set(BAKED))
    secret = pool.runner_config.get_secret_value() if pool.runner_config else ""
    proxy = pool.proxy.url.get_secret_value() if pool.proxy.url else ""
    return json.dumps([plain, secret, proxy], sort_keys=True, default=str).encode()
