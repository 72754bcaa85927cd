"""Options of pools and hosts act in a real machine: the runner's fragment, the disk's size and place."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.images import Image, Store
from tests.e2e.lab import lab

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

RUNNER = os.environ.get("FIRERUNNER_GITLAB_RUNNER")

SIZE = re.compile(r"disk of (\d+) MiB")

CI = """
stages: [test]
look:
  stage: test
  script:
    - echo "the pool says $GREETING"
    - df -m / | tail -n 1 | { read -r _ size _; echo "disk of $size MiB"; }
    - nproc
    - sleep 5
"""


@pytest.fixture
async def image() -> Image:
    given = Path(RUNNER) if RUNNER else None
    return await build(demo_recipe(given), Store(cache_dir() / "images"), given)


async def test_what_a_pool_and_a_host_say_is_seen(tmp_path: Path, image: Image) -> None:
    disks = tmp_path / "disks"
    pool = {"runner_config": 'environment = ["GREETING=hello"]', "disk_mib": 777, "vcpu": 2}
    settings = {"hosts": [{"name": "local", "disk_dir": str(disks)}]}
    files = {".gitlab-ci.yml": CI}
    async with lab(
        cache_dir() / "images", image.manifest.digest, files, pool=pool, settings=settings, directory=tmp_path
    ) as it:
        pipeline = await it.gitlab.run_pipeline(it.project)
        job = it.gitlab.job("look", pipeline)
        await it.gitlab.wait_for_job(job, "running", timeout_s=60)
        await it.gitlab.wait_for(lambda: SIZE.search(it.gitlab.trace(job)), timeout_s=60)
        while_running = [path.suffix for path in disks.rglob("fr-*")]
        await it.gitlab.wait_for_job(job, timeout_s=60)
        trace = it.trace(job)

    assert job.status == "success", trace
    assert "the pool says hello" in trace
    found = SIZE.search(trace)
    assert found is not None
    assert 650 < int(found[1]) <= 777
    assert while_running == [".raw"]
    assert list(disks.rglob("fr-*")) == []
