"""The service is killed while a clone or an artifact is half way; the job does not notice."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import zipfile

import pytest

from firerunner.demo.stage import Stage, cache_dir, set_up
from firerunner.fakes.gitlab.misbehave import Rule
from firerunner.fakes.gitlab.model import Job
from firerunner.images import Image

pytestmark = [pytest.mark.vm, pytest.mark.anyio, pytest.mark.timeout(600)]
SLOW = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it takes minutes")

WAIT_S = 240
BIG = """
big:
  tags: [small]
  variables: {GIT_STRATEGY: GIT}
  script:
    - head -c 8000000 /dev/urandom > big.bin
    - echo "sha256=$(sha256sum big.bin | cut -d' ' -f1)"
  artifacts: {paths: [big.bin]}
"""


async def started(stage: Stage, git_strategy: str) -> Job:
    """One job with a large artifact. The service learns of it by its next ask."""
    project = await stage.gitlab.add_project(
        "faults/big", {".gitlab-ci.yml": BIG.replace("GIT}", f"{git_strategy}}}")}
    )
    return stage.gitlab.job("big", await stage.gitlab.run_pipeline(project))


async def killed_while_held(stage: Stage, rule: Rule) -> None:
    """SIGKILL the service while GitLab holds the matching request, then let go."""
    await stage.gitlab.wait_for(lambda: rule.used, WAIT_S)
    assert stage.service.pid is not None
    os.kill(stage.service.pid, signal.SIGKILL)
    rule.release()


def artifact_is_whole(stage: Stage, job: Job) -> bool:
    with zipfile.ZipFile(io.BytesIO(stage.gitlab.artifact(job))) as files:
        digest = hashlib.sha256(files.read("big.bin")).hexdigest()
    return f"sha256={digest}" in stage.gitlab.trace(job)


@pytest.mark.parametrize(
    "restart_after_s", [0.0, pytest.param(60.0, marks=SLOW)], ids=["at once", "after a minute"]
)
async def test_an_artifact_streaming_through_the_gate_survives(image: Image, restart_after_s: float) -> None:
    store = cache_dir() / "images"
    async with set_up(store, image.manifest.digest, restart_after_s=restart_after_s, egress=()) as stage:
        job = await started(stage, "none")
        rule = stage.gitlab.misbehave(r"/api/v4/jobs/\d+/artifacts", method="POST", hold=True, times=1)

        await killed_while_held(stage, rule)
        await stage.gitlab.wait_for_job(job, "success", timeout_s=WAIT_S)

        assert artifact_is_whole(stage, job)
        assert job.handed_out == 1


async def test_a_clone_and_a_redirected_artifact_do_not_need_the_service(image: Image) -> None:
    async with set_up(cache_dir() / "images", image.manifest.digest) as stage:
        job = await started(stage, "fetch")
        cloning = stage.gitlab.misbehave(
            r"/faults/big\.git/git-upload-pack", method="POST", hold=True, times=1
        )
        await killed_while_held(stage, cloning)
        uploading = stage.gitlab.misbehave(r"/api/v4/jobs/\d+/artifacts", method="POST", hold=True, times=1)
        await killed_while_held(stage, uploading)

        await stage.gitlab.wait_for_job(job, "success", timeout_s=WAIT_S)

        assert artifact_is_whole(stage, job)
        assert job.handed_out == 1
