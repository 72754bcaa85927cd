"""Machines of a host with Flintlock: certificates on every way, metadata at boot, one life each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from firerunner.building import build
from firerunner.demo.hosts import PUBLISHED
from firerunner.demo.stage import cache_dir, demo_recipe, free_port
from firerunner.fakes.flintlock import FakeFlintlock, Identity, QemuVmm
from firerunner.fakes.flintlock.qemu_vmm import OUTSIDE
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.images import Image, Store
from tests.certificates import Authority, authority
from tests.contract.outside import eventually
from tests.e2e.lab import Lab, lab

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(900)]

RUNNER = os.environ.get("FIRERUNNER_GITLAB_RUNNER")
TOKEN = "s3cret"

QUICK = """
quick:
  stage: test
  script:
    - echo "machine $(hostname) has $(nproc) vCPU"
    - touch /written && df / | tail -n 1
    - ip -brief address
"""
LONG = """
long:
  stage: test
  script:
    - for second in $(seq 1 600); do echo "second $second"; sleep 1; done
"""


@dataclass(frozen=True, slots=True)
class Place:
    """One host, a service that knows it, and a GitLab."""

    flintlock: FakeFlintlock
    vmm: QemuVmm
    lab: Lab


@pytest.fixture
async def image() -> Image:
    """The demo's: with the official runner if one is given."""
    given = Path(RUNNER) if RUNNER else None
    store = Store(cache_dir() / "images")
    made = await build(demo_recipe(given), store, given)
    store.note_published(made, PUBLISHED)
    return store.resolve(made.manifest.digest)


def identity(ours: Authority, clients: Authority, folder: Path) -> Identity:
    chain, key = ours.server(folder, ["kvm-1.example.com"])
    return Identity(chain.read_bytes(), key.read_bytes(), clients.file.read_bytes())


@pytest.fixture
async def place(tmp_path: Path, image: Image, request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Its parameter is what the project's jobs are."""
    for folder in ("gate", "hosts", "clients"):
        (tmp_path / folder).mkdir()
    gates, hosts, clients = (authority(tmp_path / folder) for folder in ("gate", "hosts", "clients"))
    gate_chain, gate_key = gates.server(tmp_path / "gate", [OUTSIDE])
    chain, key = clients.server(tmp_path / "clients", ["firerunner"])
    https, gitlab = free_port(), FakeGitLab(tmp_path / "gitlab", external_url=f"http://{OUTSIDE}:PORT")
    vmm = QemuVmm(tmp_path / "kvm-1", {PUBLISHED.root: image.files})
    who = identity(hosts, clients, tmp_path / "hosts")
    async with FakeFlintlock(vmm=vmm, identity=who, token=TOKEN, pace=1.0) as flintlock:
        settings: dict[str, Any] = {
            "listen": {
                "gate_https": f"127.0.0.1:{https}",
                "gate_cert_file": str(gate_chain),
                "gate_key_file": str(gate_key),
                "gate_ca_file": str(gates.file),
            },
            "hosts": [
                {
                    "name": "kvm-1",
                    "driver": "flintlock",
                    "address": flintlock.address,
                    "token": TOKEN,
                    "tls": {
                        "ca_file": str(hosts.file),
                        "cert_file": str(chain),
                        "key_file": str(key),
                        "server_name": "kvm-1.example.com",
                    },
                    "gate_url": f"https://{OUTSIDE}:{https}",
                    "vcpu": 4,
                    "memory_mib": 4096,
                    "disk_mib": 8192,
                }
            ],
        }
        pool = {"vcpu": 2, "memory_mib": 1024, "disk_mib": 1024}
        files = {".gitlab-ci.yml": f"stages: [test]\n{request.param}"}
        store = cache_dir() / "images"
        async with lab(
            store, image.manifest.digest, files, pool=pool, settings=settings, directory=tmp_path, fake=gitlab
        ) as it:
            vmm.open.update({https: f"127.0.0.1:{https}", port_of(gitlab): f"127.0.0.1:{port_of(gitlab)}"})
            yield Place(flintlock, vmm, it)
        assert flintlock.records == {}


def port_of(gitlab: FakeGitLab) -> int:
    return int(gitlab.url.rpartition(":")[2])


@pytest.mark.parametrize("place", [QUICK], indirect=True)
async def test_a_job_runs_with_certificates_on_every_way(place: Place) -> None:
    job = await place.lab.run("quick")

    said = place.lab.trace(job)
    assert job.status == "success", said
    assert "has 2 vCPU" in said
    assert "/dev/root" in said or "/dev/vda" in said
    assert "10.0.2.15/24" in said
    assert "169.254" not in said


@pytest.mark.parametrize("place", [LONG], indirect=True)
async def test_a_machine_whose_vmm_ends_is_started_again_by_flintlock_and_runs_nothing(place: Place) -> None:
    lab = place.lab
    pipeline = await lab.gitlab.run_pipeline(lab.project)
    job = lab.gitlab.job("long", pipeline)
    await lab.gitlab.wait_for(lambda: b"second 2" in job.trace, 420)
    (record,) = [each for each in place.flintlock.records.values() if await place.vmm.alive(each)]
    place.vmm.kill(record)

    async def ended() -> bool:
        return not await place.vmm.alive(record)

    await eventually(ended, bool)
    place.flintlock.resync()

    await lab.gitlab.wait_for_job(job, "failed", timeout_s=240)
    assert (job.failure_reason, job.handed_out) == ("runner_system_failure", 1), lab.service.log_tail(4000)
    assert "a second time" in lab.service.log_tail(20_000)
