"""One job on a host that the caller names (`make test-flintlock`): our service and image, a fake GitLab."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe, free_port
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.images import Store
from firerunner.images.exchange import push
from tests.contract.real_flintlock import NAMESPACE, Given
from tests.e2e.lab import lab

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(1800)]

CI = """
stages: [test]
facts:
  stage: test
  script:
    - echo "machine $(hostname) has $(nproc) vCPU"
    - echo made > made.txt
  artifacts: {paths: [made.txt]}
"""


async def test_one_job_on_a_real_flintlock(tmp_path: Path) -> None:
    given = Given.by_environment(os.environ)
    binary = os.environ.get("FIRERUNNER_GITLAB_RUNNER")
    runner = Path(binary) if binary else None
    store = Store(cache_dir() / "images")
    image = await build(demo_recipe(runner), store, runner)
    await push(store, image.manifest.digest, f"{given.registry}:firerunner-test-job", given.way)
    gate, tls = free_port(), given.endpoint.tls
    host = {
        "name": "given",
        "driver": "flintlock",
        "address": given.endpoint.address,
        "namespace": NAMESPACE,
        "insecure": True,  # the gate is: the job is a test's
        "gate_url": f"http://{given.here}:{gate}",
        "vcpu": 2,
        "memory_mib": 2048,
        "disk_mib": 20480,
    }
    if tls is not None:
        said = {"ca_file": tls.ca_file, "cert_file": tls.cert_file, "key_file": tls.key_file}
        host["tls"] = {key: str(path) for key, path in said.items() if path} | (
            {"server_name": tls.server_name} if tls.server_name else {}
        )
    if given.endpoint.token:
        host["token"] = given.endpoint.token
    if given.bridge:
        host["bridge"] = given.bridge
    gitlab = FakeGitLab(tmp_path / "gitlab", host="0.0.0.0", external_url=f"http://{given.here}:PORT")
    settings = {"hosts": [host], "listen": {"gate": f"0.0.0.0:{gate}"}}
    pool = {"vcpu": 2, "memory_mib": 1024, "disk_mib": 1024}
    files = {".gitlab-ci.yml": CI}
    folder = cache_dir() / "images"
    async with lab(folder, image.manifest.digest, files, pool=pool, settings=settings, fake=gitlab) as it:
        job = await it.run("facts")

        assert job.status == "success", it.trace(job)
        assert "has 2 vCPU" in it.trace(job)
