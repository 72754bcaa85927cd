"""Settings change under a running service: all of them, or none; secrets without being told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from firerunner import reloading
from firerunner.errors import SettingsError
from firerunner.reloading import Reloader
from firerunner.settings import Settings, load_settings

pytestmark = pytest.mark.anyio

TEXT = """
gitlab: {url: "https://gitlab.example.com"}
pools:
  - {name: small, runner_token_file: token, image: demo, limit: 3}
"""
WAIT_S = 20.0


class Running:
    """A reloader at work, and what it has put into force."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "firerunner.yaml"
        self.token = directory / "token"
        self.config.write_text(TEXT)
        self.token.write_text("glrt-first")
        self.applied: list[Settings] = []
        self.refuse: SettingsError | None = None
        self.reloader = Reloader(
            self.config, load_settings(self.config), self._apply, structlog.get_logger("test")
        )

    async def _apply(self, settings: Settings) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.applied.append(settings)

    async def until(self, look: Callable[[], Any]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not look():
                await asyncio.sleep(0.01)


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(reloading, "LOOK_EVERY_S", 0.02)
    running = Running(tmp_path)
    task = asyncio.create_task(running.reloader.run())
    yield running
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_changed_file_is_taken_when_asked(running: Running) -> None:
    running.config.write_text(TEXT.replace("limit: 3", "limit: 5"))
    running.reloader.request()

    await running.until(lambda: running.applied)

    assert running.reloader.settings.pools[0].limit == 5


async def test_a_broken_file_changes_nothing_and_says_why(running: Running) -> None:
    with capture_logs() as lines:
        running.config.write_text(TEXT.replace("limit: 3", "limit: none"))
        running.reloader.request()
        await running.until(lambda: lines)

    assert "pools[0].limit" in lines[0]["error"]
    assert running.applied == []
    assert running.reloader.settings.pools[0].limit == 3


async def test_what_cannot_be_put_into_force_leaves_the_old(running: Running) -> None:
    running.refuse = SettingsError("the CA file is empty")
    with capture_logs() as lines:
        running.config.write_text(TEXT.replace("limit: 3", "limit: 5"))
        running.reloader.request()
        await running.until(lambda: lines)

    assert running.reloader.settings.pools[0].limit == 3


async def test_a_rotated_token_is_read_without_being_asked(running: Running) -> None:
    running.config.write_text("half writ")
    running.token.write_text("glrt-second")

    await running.until(lambda: running.applied)

    assert running.reloader.settings.pools[0].token == "glrt-second"
    assert running.reloader.settings.pools[0].limit == 3


async def test_a_secret_that_vanishes_leaves_the_old_until_it_is_back(running: Running) -> None:
    with capture_logs() as lines:
        running.token.unlink()
        await running.until(lambda: lines)
        assert running.reloader.settings.pools[0].token == "glrt-first"
        assert len(lines) == 1
        running.token.write_text("glrt-second")
        await running.until(lambda: running.applied)

    assert running.reloader.settings.pools[0].token == "glrt-second"


async def test_what_needs_a_restart_waits_for_it_and_is_named(running: Running) -> None:
    with capture_logs() as lines:
        running.config.write_text(TEXT + "listen: {web: '127.0.0.1:9999'}\n")
        running.reloader.request()
        await running.until(lambda: any("restart" in line["event"] for line in lines))

    assert running.reloader.settings.listen.web == "127.0.0.1:8080"
    assert lines[-1]["sections"] == ["listen"]


async def test_after_a_reload_new_secret_files_are_watched(running: Running) -> None:
    other = running.token.with_name("other")
    other.write_text("glrt-other")
    running.config.write_text(TEXT.replace("runner_token_file: token", "runner_token_file: other"))
    running.reloader.request()
    await running.until(lambda: running.applied)

    other.write_text("glrt-renewed")
    await running.until(lambda: len(running.applied) > 1)

    assert running.reloader.settings.pools[0].token == "glrt-renewed"
