"""Configurations with a mistake where a secret stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import yaml

from tests.secrets import canaries


def wrong_configurations(good: str) -> Iterator[str]:
    """Mistakes that people make where a secret stands."""
    yield f"{good}\nruins: [{canaries.WEBHOOK_SECRET}\n"
    yield good.replace(canaries.OPERATE_TOKEN, f"{canaries.OPERATE_TOKEN}: x")
    yield good.replace(canaries.OPERATE_TOKEN, f"'{canaries.OPERATE_TOKEN}")
    yield good.replace(canaries.OPERATE_TOKEN, f"*{canaries.OPERATE_TOKEN}")
    yield good.replace(canaries.OPERATE_TOKEN, f"!{canaries.OPERATE_TOKEN} x")
    yield good.replace(canaries.OPERATE_TOKEN, f"%{canaries.OPERATE_TOKEN}")
    password = canaries.PROXY_PASSWORD
    changes: list[Callable[[dict[str, Any]], None]] = [
        lambda it: it.update(proxy={"url": f"someone:{password}@proxy.test:3128"}),
        lambda it: it.update(proxy={"url": f"http://someone:x/{password}@proxy.test:3128"}),
        lambda it: it.update(proxy={"url": f"http://someone:x@{password}@proxy.test:no"}),
        lambda it: it.update(proxy={"url": f"ftp://someone:{password}@proxy.test"}),
        lambda it: it.update(proxy=f"http://someone:{password}@proxy.test:3128"),
        lambda it: it["gitlab"][0].update(url=f"http://someone:{password}@gitlab.test"),
        lambda it: it["gitlab"][0].update(webhook_signing_token=f"{canaries.SIGNING_TOKEN}!"),
        lambda it: it["gitlab"][0].update(webhook_secret=[canaries.WEBHOOK_SECRET]),
        lambda it: it["gitlab"][0].update(api_token={canaries.API_TOKEN: None}, api_token_file=None),
        lambda it: it["pools"][0].update(runner_token=f"{canaries.RUNNER_TOKEN} x", runner_token_file=None),
        lambda it: it["pools"][0].update(runner_config=f"token = '{canaries.RUNNER_CONFIG}'"),
        lambda it: it["pools"][0].update(
            runner_config=f"environment = {canaries.RUNNER_CONFIG}", runner_config_file=None
        ),
        lambda it: it["api"].update(operate_token=f"{canaries.OPERATE_TOKEN} "),
        lambda it: it["api"].update(operate_token=canaries.READ_TOKEN, read_token=canaries.READ_TOKEN),
    ]
    for change in changes:
        changed = yaml.safe_load(good)
        change(changed)
        for section in (*changed["gitlab"], *changed["pools"]):
            for name in [name for name, value in section.items() if value is None]:
                del section[name]
        yield yaml.safe_dump(changed)
