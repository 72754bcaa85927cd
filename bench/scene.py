"""What benches with real microVMs stand on: a fake GitLab here, the real service as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.marks import Marks
from firerunner.app import open_ledger
from firerunner.building import build
from firerunner.cli.output import reported
from firerunner.demo.stage import GITLAB_NAME, cache_dir, demo_recipe, free_port, strike
from firerunner.demo.supervisor import Supervisor
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.model import Job, Project
from firerunner.images import Image, Store
from firerunner.ledger import JobRecord, JobState, Ledger, MachineRecord, MachineState
from firerunner.settings import Settings, load_settings

POLL_S = 0.1
GIVE_UP_S = 120.0
MEMORY_MIB, DISK_MIB = 256, 1024
"""The shape of every machine of these benches, bare ones too; one vCPU."""
RESTART_S = 600.0


class Watched(Supervisor):
    """The service with its doors, its calls and its driver's clock written down (`bench.watched`)."""

    def __init__(self, config: Path, log: Path, marks: Path) -> None:
        super().__init__(config, log, RESTART_S)
        self._given, self._marks = config, marks

    @property
    def command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "bench.watched",
            str(self._marks),
            "serve",
            "--config",
            str(self._given),
        ]


@dataclass(slots=True)
class Scene:
    """Alive until the `scene` block ends."""

    directory: Path
    settings: Settings
    gitlab: FakeGitLab
    ledger: Ledger
    service: Watched = field(repr=False)
    marks: Marks

    async def add_project(self, tag: str, ci: str, *, hook: bool = True) -> Project:
        """A project whose jobs only the pool of that name takes; FireRunner hears of them."""
        project = await self.gitlab.add_project(f"bench/{tag}", {".gitlab-ci.yml": ci})
        secret = self.settings.gitlab[0].webhook_secret
        if hook and secret is not None:
            url = f"http://{self.settings.listen.web}/webhook"
            self.gitlab.add_hook(project, url, token=secret.get_secret_value())
        return project

    async def waiting(self, pool: str) -> MachineRecord:
        """A machine of the pool that is up, and whose runner's ask has come to the gate."""
        async with self._patience(f"a waiting machine of pool {pool}"):
            while True:
                for machine in await self.ledger.machines(frozenset({MachineState.WAITING})):
                    if machine.pool == pool and self.marks.asked(machine.machine_id):
                        return machine
                await asyncio.sleep(POLL_S)
        raise AssertionError

    async def over(self, job: Job) -> JobRecord:
        """The job's record once it has ended and its machine is gone: nothing of it uses the processor."""
        async with self._patience(f"the end of job {job.id}"):
            while True:
                record = await self.ledger.job(job.id)
                ended = record is not None and record.state in {JobState.ENDED, JobState.RETURNED}
                if record is not None and ended:
                    machines = await self.ledger.machines()
                    if not any(m.machine_id == record.machine_id and m.room_held for m in machines):
                        return record
                await asyncio.sleep(POLL_S)
        raise AssertionError

    @contextlib.asynccontextmanager
    async def _patience(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(GIVE_UP_S):
                yield
        except TimeoutError:
            log = self.service.log_tail(2000)
            raise TimeoutError(
                f"waited {GIVE_UP_S:g} s in vain for {what}; the service says:\n{log}"
            ) from None


async def demo_image() -> Image:
    """What every machine of these benches boots; built where it is not there."""
    with reported() as progress:
        return await build(demo_recipe(None), Store(cache_dir() / "images"), progress=progress)


@contextlib.asynccontextmanager
async def scene(image: Image, pools: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Scene]:
    """GitLab and the service with these pools, each with a runner of its name; all taken away afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="firerunner-bench-"))
    directory.chmod(0o711)
    try:
        async with contextlib.AsyncExitStack() as stack:
            gitlab = await stack.enter_async_context(
                FakeGitLab(directory / "gitlab", external_url=f"http://{GITLAB_NAME}:PORT")
            )
            settings = _settings(directory, gitlab, image, pools)
            settings.state_dir.mkdir(mode=0o711)
            ledger = await stack.enter_async_context(open_ledger(settings))
            marks = directory / "marks"
            service = Watched(directory / "config.yaml", directory / "service.log", marks)
            service.start()
            stack.push_async_callback(strike, gitlab, service, settings.state_dir)
            await service.until_healthy(f"http://{settings.listen.web}/health")
            yield Scene(directory, settings, gitlab, ledger, service, Marks(marks))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _settings(
    directory: Path, gitlab: FakeGitLab, image: Image, pools: Mapping[str, Mapping[str, Any]]
) -> Settings:
    config = directory / "config.yaml"
    config.touch(mode=0o600)
    described = {
        "gitlab": {
            "url": gitlab.url,
            "clone_url": gitlab.external_url,
            "webhook_secret": secrets.token_urlsafe(16),
        },
        "state_dir": str(directory / "state"),
        "image_dir": str(cache_dir() / "images"),
        "listen": {"web": f"127.0.0.1:{free_port()}", "gate": f"127.0.0.1:{free_port()}"},
        "pools": [
            {
                "name": name,
                "runner_token": gitlab.add_runner([name], run_untagged=False),
                "image": image.manifest.digest,
                "memory_mib": MEMORY_MIB,
                "disk_mib": DISK_MIB,
                **own,
            }
            for name, own in pools.items()
        ],
    }
    config.write_text(yaml.safe_dump(described, sort_keys=False))
    return load_settings(config)
