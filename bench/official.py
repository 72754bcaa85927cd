"""The official gitlab-runner alone, with the shell executor on this computer: no VM, nothing kept apart.

Its binary is the one that FIRERUNNER_GITLAB_RUNNER names. It says what GitLab's own program needs for the
same job here, without emulation.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path

from bench.scene import GIVE_UP_S
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.model import Job
from firerunner.images.runner_binary import ENVIRONMENT_VARIABLE


def official_runner() -> Path | None:
    """The binary, if one is named."""
    given = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(given).resolve() if given else None


async def run_alone(runner: Path, gitlab: FakeGitLab, token: str, job: Job) -> float:
    """Start it for this one pending job, and return when the job has succeeded; the time of the start."""
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as name:
        folder = Path(name)
        started_at = time.time()
        process = await asyncio.create_subprocess_exec(
            runner, "run-single", "--url", gitlab.url, "--executor", "shell", "--shell", "bash",
            "--builds-dir", str(folder / "builds"), "--cache-dir", str(folder / "cache"),
            "--max-builds", "1", "--wait-timeout", "60",
            env={"PATH": os.environ["PATH"], "HOME": name, "CI_SERVER_TOKEN": token}, cwd=folder,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            await gitlab.wait_for_job(job, "success", timeout_s=GIVE_UP_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return started_at
