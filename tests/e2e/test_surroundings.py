"""A GitLab under a path, with a private authority, behind a proxy: clone over https, submodule and LFS.

Once everything is reached directly, once the service and the guest go through a proxy with a password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.listener import Certificate
from firerunner.fakes.gitlab.repository import Submodule
from firerunner.images import Image, Store
from tests.certificates import authority
from tests.e2e.lab import EXTERNAL, Lab, lab
from tests.e2e.proxy import PASSWORD, proxy

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(900)]

RUNNER = os.environ.get("FIRERUNNER_GITLAB_RUNNER")
LARGE = b"a large object\n" * 2000

CI = """
stages: [test]
clone:
  stage: test
  variables:
    GIT_SUBMODULE_STRATEGY: recursive
  script:
    - echo "server $CI_SERVER_URL"
    - git remote get-url origin | sed 's#//.*@#//#'
    - cat lib/answer.txt
    - echo "large has $(wc -c < large.bin) bytes"
    - curl -sS -o answer --write-out 'curl says %{http_code}\\n' "$CI_API_V4_URL/version"
    - echo "proxy for jobs ${https_proxy:-none}" | sed 's#//.*@#//#'
    - echo made > made.txt
  artifacts: {paths: [made.txt]}
use:
  stage: test
  dependencies: []
  script: [echo]
"""


@pytest.fixture
async def image() -> Image:
    """The demo's: with the official runner if one is given."""
    given = Path(RUNNER) if RUNNER else None
    return await build(demo_recipe(given), Store(cache_dir() / "images"), given)


async def run(
    directory: Path,
    image: Image,
    gitlab: Mapping[str, Any],
    pool: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> tuple[str, str, bytes, Lab]:
    """One job that clones everything: its status, log and artifact."""
    trusted = authority(directory)
    chain, key = trusted.server(directory, ["gitlab.test", "127.0.0.1"])
    fake = FakeGitLab(
        directory / "gitlab",
        external_url="https://gitlab.test:PORT/gitlab",
        certificate=Certificate(chain, key),
    )
    async with lab(
        cache_dir() / "images",
        image.manifest.digest,
        {".gitlab-ci.yml": CI},
        gitlab={"ca_file": str(trusted.file), **gitlab},
        pool={"memory_mib": 512, **pool},
        settings=settings,
        directory=directory,
        fake=fake,
    ) as it:
        library = await fake.add_project("demo/lib", {"answer.txt": "forty-two\n"})
        fake.allow_job_tokens(library, of=it.project)
        sha = await fake.commit(library, {"answer.txt": "forty-two\n", ".gitlab-ci.yml": "x"})
        modules = '[submodule "lib"]\n\tpath = lib\n\turl = ../lib.git\n'
        attributes = "*.bin filter=lfs diff=lfs merge=lfs -text\n"
        await fake.commit(
            it.project,
            {
                ".gitlab-ci.yml": CI,
                ".gitmodules": modules,
                ".gitattributes": attributes,
                "large.bin": fake.add_lfs_object(LARGE),
                "lib": Submodule(sha),
            },
        )
        job = await it.run("clone")
        artifact = fake.artifact(job) if job.artifacts else b""
        return job.status.value, it.trace(job), artifact, it


async def test_under_a_path_with_a_private_authority(tmp_path: Path, image: Image) -> None:
    status, trace, artifact, it = await run(tmp_path, image, {}, {}, {})

    assert status == "success", trace
    assert f"server {it.gitlab.external_url}" in trace
    assert f"{it.gitlab.external_url}/demo/app.git" in trace
    assert "forty-two" in trace
    assert f"large has {len(LARGE)} bytes" in trace
    assert "curl says 200" in trace or "curl says 401" in trace
    assert "proxy for jobs none" in trace
    assert b"made.txt" in artifact


async def test_behind_a_proxy_with_a_password(tmp_path: Path, image: Image) -> None:
    """The proxy is the only way, for the guest and for the service: nobody else can resolve GitLab's name."""
    async with proxy(tmp_path, {"gitlab.test": "127.0.0.1"}) as way:
        settings = {"proxy": {"url": way.url}}
        guests = way.url.replace("127.0.0.1", "proxy.test")
        status, trace, artifact, _ = await run(
            tmp_path,
            image,
            {"url": EXTERNAL},
            {
                "egress": [{"host": "proxy.test", "port": way.port, "connect_to": "127.0.0.1"}],
                "proxy": {"url": guests},
            },
            settings,
        )
        served = way.requests()

    assert status == "success", trace
    assert "forty-two" in trace
    assert f"proxy for jobs http://proxy.test:{way.port}" in trace
    assert b"made.txt" in artifact
    assert f"large has {len(LARGE)} bytes" in trace
    assert any(line.startswith("CONNECT gitlab.test:") for line in served), served
    assert PASSWORD not in trace


async def test_over_ipv6(tmp_path: Path, image: Image) -> None:
    """GitLab has an IPv6 address only; guests reach it by name."""
    fake = FakeGitLab(tmp_path / "gitlab", host="::1", external_url="http://gitlab.test:PORT")
    plain = {".gitlab-ci.yml": "clone: {script: [git log -1 --oneline]}"}
    async with lab(cache_dir() / "images", image.manifest.digest, plain, directory=tmp_path, fake=fake) as it:
        job = await it.run("clone")
        trace = it.trace(job)

    assert fake.url.startswith("http://[::1]:")
    assert job.status == "success", trace
    assert "Add the sample project" in trace
