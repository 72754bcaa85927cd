"""An image that boots with systemd and cloud-init runs a job too. Slow: SLOW=1 switches it on."""

from __future__ import annotations

import os

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir
from firerunner.images import Recipe, Store
from tests.e2e.lab import lab

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it takes three minutes"),
]

CI = """
stages: [test]
look:
  stage: test
  script:
    - echo "process 1 is $(cat /proc/1/comm)"
    - cloud-init query instance_id
"""


async def test_a_job_on_a_whole_debian() -> None:
    image = await build(Recipe("e2e-cloud-init", cloud_init=True), Store(cache_dir() / "images"))
    pool = {"boot_timeout": "5m", "memory_mib": 768}
    async with lab(cache_dir() / "images", image.manifest.digest, {".gitlab-ci.yml": CI}, pool=pool) as it:
        job = await it.run("look")
        trace = it.trace(job)

    assert job.status == "success", trace
    assert "process 1 is systemd" in trace
    assert "fr-" in trace.partition("process 1 is systemd")[2]
