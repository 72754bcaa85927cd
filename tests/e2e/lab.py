"""A whole FireRunner for one test: a faithful GitLab, the real service as a process, real microVMs."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from firerunner.demo.stage import free_port, strike
from firerunner.demo.supervisor import Supervisor
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.model import Job, Project

GITLAB_NAME = "gitlab.test"
JOB_S = 420.0
EXTERNAL = "EXTERNAL-URL"
"""In the `gitlab` section: what GitLab calls itself."""


@dataclass(slots=True)
class Lab:
    """What a test holds while its service runs."""

    directory: Path
    gitlab: FakeGitLab
    project: Project
    web: str
    config: Path
    service: Supervisor = field(repr=False)

    async def run(self, name: str) -> Job:
        """A new pipeline; its job of that name when it has ended."""
        pipeline = await self.gitlab.run_pipeline(self.project)
        return await self.gitlab.wait_for_job(self.gitlab.job(name, pipeline), timeout_s=JOB_S)

    def trace(self, job: Job) -> str:
        """The job's log, and if it is not a success the service's too."""
        said = self.gitlab.trace(job)
        if job.status != "success":
            said += f"\n--- the service said:\n{self.service.log_tail(4000)}"
        return said


@contextlib.asynccontextmanager
async def lab(
    store: Path,
    image: str,
    files: Mapping[str, str],
    *,
    gitlab: Mapping[str, str] | None = None,
    pool: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    directory: Path | None = None,
    fake: FakeGitLab | None = None,
) -> AsyncIterator[Lab]:
    """One pool `small` with an image of `store`; the given keys are added to what stands here.

    In a `directory` that is given, everything stays for a look.
    """
    place = directory or Path(tempfile.mkdtemp(prefix="firerunner-lab-"))
    place.chmod(0o711)
    try:
        async with contextlib.AsyncExitStack() as stack:
            yield await _build(place, store, image, files, gitlab, pool, settings, fake, stack)
    finally:
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)


async def _build(
    directory: Path,
    store: Path,
    image: str,
    files: Mapping[str, str],
    gitlab: Mapping[str, str] | None,
    pool: Mapping[str, Any] | None,
    settings: Mapping[str, Any] | None,
    given: FakeGitLab | None,
    stack: contextlib.AsyncExitStack,
) -> Lab:
    fake = await stack.enter_async_context(
        given or FakeGitLab(directory / "gitlab", external_url=f"http://{GITLAB_NAME}:PORT")
    )
    more = dict(settings or {})
    project = await fake.add_project("demo/app", dict(files))
    web, gate, secret = free_port(), free_port(), secrets.token_urlsafe(16)
    fake.add_hook(project, f"http://127.0.0.1:{web}/webhook", token=secret)
    described: dict[str, Any] = {
        "gitlab": {
            "url": fake.url,
            "clone_url": fake.external_url,
            "webhook_secret": secret,
            **{key: value.replace(EXTERNAL, fake.external_url) for key, value in (gitlab or {}).items()},
        },
        "state_dir": str(directory / "state"),
        "image_dir": str(store),
        "listen": {"web": f"127.0.0.1:{web}", "gate": f"127.0.0.1:{gate}", **more.pop("listen", {})},
        "pools": [
            {
                "name": "small",
                "runner_token": fake.add_runner(["small"], run_untagged=True),
                "image": image,
                "memory_mib": 512,
                "disk_mib": 2048,
                "limit": 2,
                "max_job_time": "10m",
                **(pool or {}),
            }
        ],
        **more,
    }
    config = directory / "config.yaml"
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(described, sort_keys=False))
    Path(described["state_dir"]).mkdir(mode=0o711)
    service = Supervisor(config, directory / "service.log", restart_after_s=1.0)
    service.start()
    stack.push_async_callback(strike, fake, service, Path(described["state_dir"]))
    await service.until_healthy(f"http://127.0.0.1:{web}/health")
    return Lab(directory, fake, project, f"127.0.0.1:{web}", config, service)
