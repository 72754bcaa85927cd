"""When the API tokens expire: asked of GitLab now and then, because nobody is told when one does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from firerunner.errors import GitLabError
from firerunner.gitlab import RestClient
from firerunner.telemetry import Metrics
from firerunner.telemetry.catalogue import TOKEN

LOOK_EVERY_S = 6 * 3600.0
AGAIN_S = 300.0


async def watch_tokens(
    names: Callable[[], Iterable[str]],
    rest: Callable[[str], RestClient | None],
    metrics: Metrics,
    log: Any,
) -> None:
    """Run for ever. `names`: the GitLabs of the settings in force; `rest`: None for one without a token."""
    while True:
        answers = [await look(name, rest(name), metrics, log) for name in names()]
        await asyncio.sleep(LOOK_EVERY_S if all(answers) else AGAIN_S)


async def look(name: str, client: RestClient | None, metrics: Metrics, log: Any) -> bool:
    """Look once. False if GitLab could not be asked."""
    expires_at = None
    if client is not None:
        try:
            expires_at = expiry((await client.token()).expires_at)
        except (GitLabError, TypeError) as error:
            log.warning("cannot see when the API token expires", gitlab=name, error=str(error))
            return False
    if expires_at is not None:
        metrics.set(TOKEN, expires_at, name)
    else:
        with suppress(KeyError):
            metrics.forget(TOKEN, name)
    return True


def expiry(text: str | None) -> float | None:
    """GitLab's date (`2027-01-31`, its midnight in UTC) as Unix time; None for none or nonsense."""
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
