"""A fake GitLab with a project, and the clients that speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_gitlab_wire import ONE_JOB, Wire

from firerunner.fakes.gitlab import FakeGitLab, HeldClock


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
async def gitlab(tmp_path: Path, clock: HeldClock) -> AsyncIterator[FakeGitLab]:
    async with FakeGitLab(tmp_path / "gitlab", clock=clock) as gitlab:
        yield gitlab


@pytest.fixture
async def wire(gitlab: FakeGitLab) -> AsyncIterator[Wire]:
    async with httpx.AsyncClient(base_url=f"{gitlab.url}/api/v4", trust_env=False) as client:
        yield Wire(gitlab, client)


@pytest.fixture
async def job(gitlab: FakeGitLab, wire: Wire) -> dict[str, Any]:
    """The payload of a job that was just handed out; its record is `gitlab.job("only")`."""
    project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": ONE_JOB})
    await gitlab.run_pipeline(project)
    payload: dict[str, Any] = (await wire.ask(gitlab.add_runner())).json()
    return payload
