"""A machine's Docker engine and the world: a private authority, a login, a mirror, the gate, its own socket.
Slow: SLOW=1 switches it on.

The container image is a Debian root: the one that `image push` makes of the demo's image.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.images import Recipe, Store
from firerunner.images.exchange import Way, push
from tests.certificates import authority
from tests.e2e.lab import lab
from tests.e2e.registry import busybox_root, docker_archive, program, registry
from tests.e2e.registry import push as push_archive

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vm,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it takes three minutes"),
]

PRIVATE, MIRROR = "private.test", "mirror.test"

CI = """
stages: [test]
pull:
  stage: test
  script:
    - docker run --rm box echo "from a mirror"
    - docker run --rm box sh -c 'wget -S -O /dev/null http://10.0.2.2/ 2>&1 || true'
    - docker pull --quiet DEBIAN || echo "refused without a login"
    - echo s3cret | docker login --username pusher --password-stdin PRIVATE
    - docker run --rm DEBIAN sh -c '. /etc/os-release && echo "this is $ID $VERSION_ID"'
    - docker run --rm --name inner --volume /var/run/docker.sock:/var/run/docker.sock DEBIAN
      curl -sS --unix-socket /var/run/docker.sock http://docker/containers/inner/json > seen
    - grep -o '"Name":"/inner"' seen
"""


async def test_images_come_from_private_registries_and_mirrors(tmp_path: Path) -> None:
    store = Store(cache_dir() / "images")
    image = await build(Recipe("e2e-docker", docker=True), store)
    debian = await build(demo_recipe(None), store)
    trusted = authority(tmp_path)
    certificates = [trusted.server(tmp_path, [name, "127.0.0.1"]) for name in (PRIVATE, MIRROR)]
    (tmp_path / "htpasswd").write_text(await program("htpasswd", "-Bbn", "pusher", "s3cret"))
    async with (
        registry(
            tmp_path / "private",
            certificate=certificates[0][0],
            key=certificates[0][1],
            htpasswd=tmp_path / "htpasswd",
        ) as private,
        registry(tmp_path / "mirror", certificate=certificates[1][0], key=certificates[1][1]) as mirror,
    ):
        way = Way("pusher", "s3cret", trusted.file)
        await push(store, debian.manifest.digest, f"{private.address}/ci/firerunner:e2e", way)
        busybox_root(tmp_path / "root.tar")
        docker_archive(tmp_path / "root.tar", tmp_path / "box.tar", "box:latest")
        await push_archive(tmp_path / "box.tar", f"{mirror.address}/library/box:latest")
        pool = {
            "egress": [
                "gitlab",
                {"host": PRIVATE, "port": private.port, "connect_to": "127.0.0.1"},
                {"host": MIRROR, "port": mirror.port, "connect_to": "127.0.0.1"},
            ],
            "ca_file": str(trusted.file),
            "docker_daemon": {"registry-mirrors": [f"https://{MIRROR}:{mirror.port}"]},
            "memory_mib": 768,
            "disk_mib": 4096,
            "boot_timeout": "3m",
        }
        place = f"{PRIVATE}:{private.port}"
        ci = CI.replace("DEBIAN", f"{place}/ci/firerunner:e2e-root").replace("PRIVATE", place)
        async with lab(
            cache_dir() / "images", image.manifest.digest, {".gitlab-ci.yml": ci}, pool=pool
        ) as it:
            job = await it.run("pull")
            trace = it.trace(job)

    assert job.status == "success", trace
    assert "from a mirror" in trace
    assert "HTTP/1.1 4" in trace, "the gate answers containers"
    assert "refused without a login" in trace
    assert "this is debian 12" in trace
    assert '"Name":"/inner"' in trace
