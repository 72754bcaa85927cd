"""A job says the size of its machine by its tag, and gets it: two vCPUs and 1 GiB seen from inside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.images import Store
from tests.e2e.lab import lab

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]

RUNNER = os.environ.get("FIRERUNNER_GITLAB_RUNNER")

CI = """
size:
  tags: [firecracker-2cpu-1gb]
  script:
    - echo "vcpu $(grep -c ^processor /proc/cpuinfo)"
    - echo "mib $(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)"
"""


async def test_a_job_sees_the_size_that_its_tag_names(tmp_path: Path) -> None:
    store, given = cache_dir() / "images", Path(RUNNER) if RUNNER else None
    image = await build(demo_recipe(given), Store(store), given)
    fake = FakeGitLab(tmp_path / "gitlab", external_url="http://gitlab.test:PORT")
    template = {"runner_token": None, "sized": {"max_vcpu": 2, "max_memory_mib": 2048}}

    async with lab(
        store, image.manifest.digest, {".gitlab-ci.yml": CI},
        pool=template, gitlab={"api_token": fake.api_token}, fake=fake,
    ) as service:  # fmt: skip
        job = await service.run("size")
        said = service.trace(job)

    assert job.status == "success", said
    assert "vcpu 2" in said
    memory_mib = int(said.rpartition("\nmib ")[2].split()[0])
    assert 900 < memory_mib <= 1024
    assert {tag for runner in fake.world.runners.values() for tag in runner.tags} >= {"firecracker-2cpu-1gb"}
