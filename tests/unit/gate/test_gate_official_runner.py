"""The official gitlab-runner, booted with the gate's files, speaks to GitLab through the gate alone.

Needs the binary: set FIRERUNNER_GITLAB_RUNNER to its path.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tarfile
import zipfile
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gate_given import A, B, Guest
from gate_stage import Stage, staged

from firerunner.fakes.gitlab import bad_gateway
from firerunner.gate import JobDelivered, JobFinal, JobSpoke
from firerunner.ledger import JobState

BINARY = os.environ.get("FIRERUNNER_GITLAB_RUNNER", "")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not BINARY, reason="FIRERUNNER_GITLAB_RUNNER does not name an official gitlab-runner"),
]

CI = """
stages: [build, test]
build:
  stage: build
  script: ['mkdir out', 'echo made of README && cat README.md | tee out/result.txt']
  artifacts: {paths: [out]}
test:
  stage: test
  script: ['cat out/result.txt', 'exit 3']
  dependencies: [build]
"""
SLOW = """
slow:
  script: ['echo started', 'while sleep 1; do echo tick; done']
  after_script: ['echo cleaned up']
"""


@pytest.fixture
async def stage(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as stage:
        yield stage


@contextlib.asynccontextmanager
async def guest_running(stage: Stage, folder: Path, machine_id: str) -> AsyncIterator[asyncio.Future[int]]:
    """What PID 1 does: `booted`, unpack, run-single; ended with its children when the block ends."""
    folder.mkdir()
    stage.facts = stage.facts | {
        "gate_url": f"{stage.gate_url}/m/{machine_id}",
        "clone_url": stage.gitlab.url,
        "runner_config": {"builds_dir": str(folder / "builds"), "cache_dir": str(folder / "cache")},
    }
    booted = await Guest(stage.http, machine_id).booted()
    with tarfile.open(fileobj=io.BytesIO(booted.content), mode="r:") as files:
        files.extractall(folder)  # noqa: S202
    process = await asyncio.create_subprocess_exec(
        Path(BINARY).resolve(), "run-single", "--config", str(folder / "run/firerunner/config.toml"),
        "--runner", "firerunner", "--max-builds", "1", "--wait-timeout", "60",
        env={"PATH": os.environ["PATH"], "HOME": str(folder)}, cwd=folder,
        stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    waiting = asyncio.ensure_future(process.wait())
    try:
        yield waiting
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await waiting


@pytest.mark.parametrize("direct", [False, True])
async def test_two_jobs_and_the_artifact_between_them(stage: Stage, tmp_path: Path, direct: bool) -> None:
    await stage.pipeline(CI, **{"README.md": "A sample.\n"})
    stage.facts = {"artifacts_url": {False: None, True: stage.gitlab.url}[direct]}

    build = await stage.take(A)
    async with guest_running(stage, tmp_path / A, A) as ended:
        assert await ended == 0
    test = await stage.take(B)
    async with guest_running(stage, tmp_path / B, B) as ended:
        assert await ended == 0

    # A system id that it does not like, it replaces in the file.
    assert (tmp_path / A / "run/firerunner/.runner_system_id").read_text() == "r_aaaaaaaaaaaa"
    assert build.status.value == "success"
    assert build.trace_checksum_ok
    assert "A sample." in stage.gitlab.trace(build)
    with zipfile.ZipFile(io.BytesIO(stage.gitlab.artifact(build))) as archive:
        assert archive.read("out/result.txt") == b"A sample.\n"
    assert (test.status.value, test.failure_reason) == ("failed", "script_failure")
    assert "A sample." in stage.gitlab.trace(test)
    finals = [event for event in stage.events if isinstance(event, JobFinal)]
    assert finals == [
        JobFinal(build.id, A, "success", None, None),
        JobFinal(test.id, B, "failed", "script_failure", 3),
    ]
    assert [one.system_id for one in stage.gitlab.managers()] == [A, B]
    for job in (build, test):
        assert "credential-of" not in stage.gitlab.trace(job)
        assert stage.token not in stage.gitlab.trace(job)
        assert job.handed_out == 1


async def test_a_gitlab_that_stumbles_loses_no_line_and_no_result(stage: Stage, tmp_path: Path) -> None:
    await stage.pipeline(CI, **{"README.md": "A sample.\n"})
    build = await stage.take(A)
    stage.gitlab.behaviour.final_update_waits = 1
    stage.gitlab.misbehave(bad_gateway(".*/trace", times=1))
    stage.gitlab.misbehave(".*/trace", lose_answer=True, times=1)
    stage.gitlab.misbehave(r".*/artifacts", method="POST", cut_after_bytes=0, times=1)

    async with guest_running(stage, tmp_path / A, A) as ended:
        await ended

    assert build.status.value == "success"
    assert build.trace_checksum_ok
    assert stage.gitlab.trace(build).count("A sample.") == 1


async def test_a_cancelled_job_cleans_up_and_ends_as_canceled(stage: Stage, tmp_path: Path) -> None:
    await stage.pipeline(SLOW)
    slow = await stage.take(A)
    async with guest_running(stage, tmp_path / A, A) as ended:
        await stage.gitlab.wait_for(lambda: "tick" in stage.gitlab.trace(slow))
        stage.gitlab.cancel(slow)
        await ended

    record = await stage.ledger.job(slow.id)
    assert slow.status.value == "canceled"
    assert "cleaned up" in stage.gitlab.trace(slow)
    assert record is not None
    assert (record.state, record.gitlab_status) == (JobState.ENDED, "canceled")
    assert [type(event) for event in stage.events if isinstance(event, JobDelivered | JobSpoke)] == [
        JobDelivered,
        JobSpoke,
    ]


async def test_a_job_that_gitlab_took_back_is_not_run(stage: Stage, tmp_path: Path) -> None:
    await stage.pipeline(SLOW)
    slow = await stage.take(A)
    stage.gitlab.cancel(slow, force=True)
    async with guest_running(stage, tmp_path / A, A):
        await stage.gitlab.wait_for(lambda: len(stage.gitlab.calls("PUT", f"/api/v4/jobs/{slow.id}")) >= 2)

    assert stage.gitlab.trace(slow) == ""
    assert not any(isinstance(event, JobDelivered) for event in stage.events)
