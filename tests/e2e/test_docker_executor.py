"""The official runner's docker executor in a machine: `image:` from Debian's registry, `services:`, a clone.

Needs the official gitlab-runner and its helper (FIRERUNNER_GITLAB_RUNNER, FIRERUNNER_GITLAB_RUNNER_HELPER).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firerunner.building import build
from firerunner.images import Store
from firerunner.images.declaration import Declaration, DockerEntry
from firerunner.images.declared import recipe_of
from tests.e2e.lab import lab
from tests.e2e.registry import busybox_root, docker_archive, program, push, registry

RUNNER = os.environ.get("FIRERUNNER_GITLAB_RUNNER", "")
HELPER = os.environ.get("FIRERUNNER_GITLAB_RUNNER_HELPER", "")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not (RUNNER and HELPER),
        reason="FIRERUNNER_GITLAB_RUNNER(_HELPER) do not name the official programs",
    ),
]

NAME = "registry.test"

CI = """
stages: [test]
in-debian:
  stage: test
  image: REGISTRY/ci/debian:12
  services:
    - {name: "REGISTRY/ci/box", alias: web, command: ["busybox", "httpd", "-f", "-p", "80", "-h", "/www"]}
  script:
    - . /etc/os-release && echo "this is $ID $VERSION_ID"
    - cat README.md
    - exec 3<>/dev/tcp/web/80 && printf 'GET /page HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3
    - echo made > made.txt
  artifacts: {paths: [made.txt]}
"""

ENTRYPOINT = '#!/bin/sh\nexec "$@"\n'
BUILD = "#!/bin/sh\numask 0000\nexec /bin/bash\n"


async def debian(tarball: Path, *options: str) -> None:
    """A Debian root file system from the packages of this computer's mirror."""
    await program("mmdebstrap", "--quiet", "--variant=minbase", *options, "bookworm", tarball)


async def helper_image(directory: Path) -> Path:
    """What GitLab ships as gitlab-runner-helper-images, made of a Debian root and the helper."""
    (directory / "entrypoint").write_text(ENTRYPOINT)
    (directory / "build").write_text(BUILD)
    tarball = directory / "prebuilt-alpine-x86_64.tar"
    await debian(
        tarball,
        "--include=git,ca-certificates,dumb-init",
        f"--customize-hook=upload {directory}/entrypoint /entrypoint",
        f"--customize-hook=upload {directory}/build /usr/bin/gitlab-runner-build",
        f"--customize-hook=upload {HELPER} /usr/bin/gitlab-runner-helper",
        '--customize-hook=chmod 755 "$1/entrypoint" "$1/usr/bin/gitlab-runner-build" '
        '"$1/usr/bin/gitlab-runner-helper"',
        '--customize-hook=rm -rf "$1"/usr/share/doc "$1"/usr/share/locale "$1"/var/lib/apt/lists/*',
    )
    await program("xz", "-0", "-T2", tarball)
    return tarball.with_suffix(".tar.xz")


async def test_a_job_in_a_container_with_a_service(tmp_path: Path) -> None:
    helper = await helper_image(tmp_path)
    declared = Declaration(
        name="e2e-docker-official", docker=DockerEntry(helper_image=helper), packages=("busybox",)
    )
    store = Store(tmp_path / "images")
    image = await build(recipe_of(declared), store, Path(RUNNER))
    root, archive = tmp_path / "root.tar", tmp_path / "image.tar"
    async with registry(tmp_path / "registry") as shelf:
        busybox_root(root, {"www/page": b"a page of a service\n"})
        docker_archive(root, archive, "box:latest")
        await push(archive, f"{shelf.address}/ci/box:latest")
        await debian(root)
        docker_archive(root, archive, "debian:12", {"Cmd": ["/bin/bash"]})
        await push(archive, f"{shelf.address}/ci/debian:12")
        inside = f"{NAME}:{shelf.port}"
        pool = {
            "egress": ["gitlab", {"host": NAME, "port": shelf.port, "connect_to": "127.0.0.1"}],
            "docker_daemon": {"insecure-registries": [inside]},
            "runner_config": 'executor = "docker"\n',
            "memory_mib": 1536,
            "disk_mib": 8192,
            "boot_timeout": "3m",
            "max_job_time": "15m",
        }
        files = {".gitlab-ci.yml": CI.replace("REGISTRY", inside), "README.md": "cloned by the helper\n"}
        async with lab(store_directory(store), image.manifest.digest, files, pool=pool) as it:
            job = await it.run("in-debian")
            trace = it.trace(job)
            artifact = it.gitlab.artifact(job) if job.artifacts else b""

    assert job.status == "success", trace
    assert "this is debian 12" in trace
    assert "cloned by the helper" in trace
    assert "a page of a service" in trace
    assert b"made.txt" in artifact


def store_directory(store: Store) -> Path:
    return store._directory
