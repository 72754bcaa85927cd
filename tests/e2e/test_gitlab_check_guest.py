"""`firerunner gitlab check --from-guest`: a real guest reaches GitLab, or says why not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.listener import Certificate
from firerunner.findings import Level
from firerunner.images import Store
from firerunner.settings import GitLabSettings, PoolSettings, Settings
from firerunner.setup.booting import check_guests
from tests.certificates import authority

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]

RUNNER = os.environ.get("FIRERUNNER_GITLAB_RUNNER")


async def test_a_guest_reaches_gitlab_by_name_and_tls_only_as_the_settings_say(tmp_path: Path) -> None:
    store, given = cache_dir() / "images", Path(RUNNER) if RUNNER else None
    image = await build(demo_recipe(given), Store(store), given)
    ca = authority(tmp_path)
    certificate = Certificate(*ca.server(tmp_path, ["gitlab.test", "127.0.0.1"]))
    external = "https://gitlab.test:PORT/gitlab"
    async with FakeGitLab(tmp_path, certificate=certificate, external_url=external) as gitlab:
        trusting = GitLabSettings(url=gitlab.url, clone_url=gitlab.external_url, ca_file=ca.file)
        pool = PoolSettings(name="small", runner_token=SecretStr("x"), image=image.manifest.digest)
        closed = pool.model_copy(update={"name": "closed", "egress": ()})
        settings = Settings(gitlab=(trusting,), pools=(pool, closed), state_dir=tmp_path, image_dir=store)

        findings = await check_guests(settings, settings.pools)

    said = [(finding.subject, finding.level) for finding in findings]
    assert said == [
        ("guest of pool small", Level.OK),
        ("guest of pool small", Level.OK),
        ("guest of pool closed", Level.OK),
        ("guest of pool closed", Level.FAIL),
    ], findings
    assert f"reaches GitLab at {gitlab.external_url}" in findings[1].what
    assert "egress" in findings[3].remedy
