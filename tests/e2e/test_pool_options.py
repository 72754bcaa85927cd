"""Options of pools and hosts act in a real machine: the runner's fragment, the disk's size and place."""

from __future__ import annotations

import os
import re
from pathlib import Path

import httpx
import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.fakes.gitlab import FakeGitLab
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


async def test_a_sized_tag_makes_a_machine_of_that_size(tmp_path: Path, image: Image) -> None:
    fake = FakeGitLab(tmp_path / "gitlab", external_url="http://gitlab.test:PORT")
    template = {"name": "sized", "image": image.manifest.digest, "sized": {"max_vcpu": 2}, "disk_mib": 1024}
    sized = {
        ".gitlab-ci.yml": """
stages: [test]
two: {stage: test, tags: [firecracker-2cpu-1gb], script: ["nproc", "grep MemTotal /proc/meminfo"]}
huge: {stage: test, tags: [firecracker-64cpu-1gb], script: [echo]}
"""
    }
    async with lab(
        cache_dir() / "images",
        image.manifest.digest,
        sized,
        gitlab={"api_token": fake.api_token},
        settings={"pools": [template]},
        directory=tmp_path,
        fake=fake,
    ) as it:
        pipeline = await fake.run_pipeline(it.project)
        job = await fake.wait_for_job(fake.job("two", pipeline), timeout_s=120)
        async with httpx.AsyncClient(trust_env=False) as http:
            ready = (await http.get(f"http://{it.web}/ready")).json()
        trace = it.trace(job)

    assert job.status == "success", trace
    assert "\n2" in trace
    total_mib = int(trace.partition("MemTotal:")[2].split()[0]) >> 10
    assert 850 < total_mib <= 1024
    assert fake.job("huge", pipeline).runner is None
    assert any("firecracker-64cpu-1gb" in what for what in ready["pools"]), ready


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
