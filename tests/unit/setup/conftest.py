"""A stage for each test: the fake GitLab with one project, and a configuration without secrets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firerunner.fakes.gitlab import FakeGitLab

from .setup_given import Stage, pool

CI = "one:\n  script: [echo one]\n"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with FakeGitLab(tmp_path / "gitlab") as gitlab:
        project = await gitlab.add_project("group/app", {".gitlab-ci.yml": CI})
        yield Stage(tmp_path, gitlab, project, [pool()])
