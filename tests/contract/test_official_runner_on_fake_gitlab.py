"""The official gitlab-runner is content with the fake GitLab: clone, trace, artifacts, failure, cancel.

Needs the binary: set FIRERUNNER_GITLAB_RUNNER to its path.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import zipfile
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firerunner.fakes.gitlab import FakeGitLab, Job, bad_gateway

BINARY = os.environ.get("FIRERUNNER_GITLAB_RUNNER", "")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not BINARY, reason="FIRERUNNER_GITLAB_RUNNER does not name an official gitlab-runner"),
]

CI = """
stages: [build, test]
variables:
  GREETING: hello
build:
  stage: build
  before_script: ['echo "$GREETING from before"']
  script:
    - mkdir out
    - cat README.md > out/result.txt
    - echo "nonce is $NONCE" | tee -a out/result.txt
  artifacts:
    paths: [out]
    expire_in: 1 hour
test:
  stage: test
  script: ['grep "nonce is $NONCE" out/result.txt && echo found it']
  dependencies: [build]
"""
FAILING = """
fails:
  script: ['echo about to fail', 'exit 3']
"""
SLOW = """
slow:
  script: ['echo started', 'while sleep 1; do echo tick; done']
  after_script: ['echo cleaned up']
"""
README = {"README.md": "A sample.\n"}


@contextlib.asynccontextmanager
async def official_runner(
    gitlab: FakeGitLab, token: str, folder: Path, builds: int
) -> AsyncIterator[asyncio.Task[int]]:
    """`gitlab-runner run-single` on this machine; ended with its children when the block ends."""
    process = await asyncio.create_subprocess_exec(
        Path(BINARY).resolve(), "run-single", "--url", gitlab.url, "--executor", "shell", "--shell", "bash",
        "--builds-dir", str(folder / "builds"), "--cache-dir", str(folder / "cache"),
        "--max-builds", str(builds), "--wait-timeout", "60",
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "CI_SERVER_TOKEN": token}, cwd=folder,
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


async def test_a_job_succeeds_and_the_next_one_gets_its_artifact(tmp_path: Path) -> None:
    async with FakeGitLab(tmp_path / "gitlab", external_url="http://localhost:PORT") as gitlab:
        project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": CI, **README})
        token = gitlab.add_runner()
        pipeline = await gitlab.run_pipeline(project, variables={"NONCE": "n-4711"})

        async with official_runner(gitlab, token, tmp_path, builds=2) as ended:
            exit_code = await ended

        build, test = gitlab.jobs(pipeline)
        assert exit_code == 0
        assert pipeline.status == "success"
        assert "hello from before" in gitlab.trace(build)
        assert "found it" in gitlab.trace(test)
        with zipfile.ZipFile(io.BytesIO(gitlab.artifact(build))) as archive:
            assert archive.read("out/result.txt") == b"A sample.\nnonce is n-4711\n"
        assert build.artifacts["archive"].expire_in == "1 hour"
        assert build.trace_checksum_ok
        assert _statuses(build) == ["created", "pending", "running", "success"]
        assert build.handed_out == 1
        assert build.token not in gitlab.trace(build)
        assert len(gitlab.managers(token)) == 1


async def test_redirects_to_object_storage_are_followed(tmp_path: Path) -> None:
    async with FakeGitLab(tmp_path / "gitlab") as gitlab:
        gitlab.behaviour.redirect_uploads = gitlab.behaviour.redirect_downloads = True
        project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": CI, **README})
        pipeline = await gitlab.run_pipeline(
            project, variables={"NONCE": "n-1", "FF_USE_DIRECT_DOWNLOAD": "true"}
        )

        async with official_runner(gitlab, gitlab.add_runner(), tmp_path, builds=2) as ended:
            await ended

        assert pipeline.status == "success"
        assert gitlab.world.redirected_uploads == 1
        assert gitlab.world.redirected_downloads >= 1


async def test_a_gitlab_that_stumbles_loses_no_line_and_no_result(tmp_path: Path) -> None:
    async with FakeGitLab(tmp_path / "gitlab") as gitlab:
        gitlab.behaviour.final_update_waits = 1
        gitlab.misbehave(bad_gateway(".*/jobs/request", times=1))
        gitlab.misbehave(bad_gateway(".*/trace", times=1))
        gitlab.misbehave(".*/trace", lose_answer=True, times=1)
        gitlab.misbehave(r".*/artifacts", method="POST", cut_after_bytes=0, times=1)
        project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": CI, **README})
        pipeline = await gitlab.run_pipeline(project, variables={"NONCE": "n-2"})

        async with official_runner(gitlab, gitlab.add_runner(), tmp_path, builds=2) as ended:
            await ended

        build = gitlab.job("build", pipeline)
        assert pipeline.status == "success"
        assert build.trace_checksum_ok
        assert gitlab.trace(build).count("nonce is n-2") == 1


async def test_a_job_fails_with_its_exit_code(tmp_path: Path) -> None:
    async with FakeGitLab(tmp_path / "gitlab") as gitlab:
        project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": FAILING})
        pipeline = await gitlab.run_pipeline(project)

        async with official_runner(gitlab, gitlab.add_runner(), tmp_path, builds=1) as ended:
            exit_code = await ended

        (job,) = gitlab.jobs(pipeline)
        assert exit_code == 0
        assert (job.status, job.failure_reason, job.exit_code) == ("failed", "script_failure", 3)
        assert "about to fail" in gitlab.trace(job)


async def test_a_cancelled_job_runs_its_after_script(tmp_path: Path) -> None:
    async with FakeGitLab(tmp_path / "gitlab") as gitlab:
        gitlab.behaviour.trace_update_interval_s = 1
        project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": SLOW})
        pipeline = await gitlab.run_pipeline(project)
        (job,) = gitlab.jobs(pipeline)

        async with official_runner(gitlab, gitlab.add_runner(), tmp_path, builds=1) as ended:
            await gitlab.wait_for(lambda: "started" in gitlab.trace(job))
            gitlab.cancel(job)
            await ended

        assert _statuses(job) == ["created", "pending", "running", "canceling", "canceled"]
        assert "cleaned up" in gitlab.trace(job)


def _statuses(job: Job) -> list[str]:
    return [mark.status for mark in job.timeline]
