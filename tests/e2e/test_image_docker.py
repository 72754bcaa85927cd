"""An image with a Docker engine: containers, services and builds inside a machine, images from a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir
from firerunner.images import Image, Recipe, Store
from tests.e2e.lab import lab
from tests.e2e.registry import Registry, busybox_root, docker_archive, push, registry

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(1200)]

NAME = "registry.test"

CI = """
stages: [test]
containers:
  stage: test
  script:
    - docker run --rm REGISTRY/ci/box echo "hello from a container of $(hostname)"
    - docker run --detach --name web REGISTRY/ci/box busybox httpd -f -p 80 -h /www
    - docker run --rm --link web REGISTRY/ci/box wget -q -O - http://web/page
    - printf 'FROM REGISTRY/ci/box\\nRUN echo built > /built\\n' | docker build --quiet --tag own -
    - docker run --rm own cat /built
    - docker run --rm REGISTRY/ci/box busybox nslookup registry.test
    - docker info --format 'driver={{.Driver}} cgroups={{.CgroupVersion}}'
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def image(anyio_backend: str) -> Image:
    """Kept from one run to the next, like the demo's: it takes a minute and a half to build."""
    store = Store(cache_dir() / "images")
    return await build(Recipe("e2e-docker", docker=True), store)


@pytest.fixture
async def shelf(tmp_path: Path) -> AsyncIterator[Registry]:
    """A registry with one small image."""
    async with registry(tmp_path / "registry") as shelf:
        root, archive = tmp_path / "root.tar", tmp_path / "box.tar"
        busybox_root(root, {"www/page": b"a page of a service\n"})
        docker_archive(root, archive, "box:latest")
        await push(archive, f"{shelf.address}/ci/box:latest")
        yield shelf


async def test_containers_services_and_builds_work_in_a_machine(image: Image, shelf: Registry) -> None:
    inside = f"{NAME}:{shelf.port}"
    pool = {
        "egress": ["gitlab", {"host": NAME, "port": shelf.port, "connect_to": "127.0.0.1"}],
        "docker_daemon": {"insecure-registries": [inside]},
        "memory_mib": 768,
        "boot_timeout": "3m",
    }
    files = {".gitlab-ci.yml": CI.replace("REGISTRY", inside)}
    async with lab(cache_dir() / "images", image.manifest.digest, files, pool=pool) as it:
        job = await it.run("containers")
        trace = it.trace(job)

    assert job.status == "success", trace
    assert "hello from a container of fr-" in trace
    assert "a page of a service" in trace
    assert "\nbuilt" in trace
    assert "10.0.2.101" in trace, "a container finds the pool's names by DNS"
    assert "driver=overlay2 cgroups=2" in trace
