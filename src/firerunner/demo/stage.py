"""The demo's stage: directories, the fake GitLab, and the real service as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from firerunner.app import open_ledger
from firerunner.demo.leftovers import processes_of
from firerunner.demo.sample import POOLS, PROJECT, project_files
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.model import Project
from firerunner.images import Recipe
from firerunner.images.runner_binary import ENVIRONMENT_VARIABLE
from firerunner.ledger import Ledger
from firerunner.settings import Settings, load_settings

GITLAB_NAME = "gitlab.test"
RESTART_S = 1.0
FINISH_S = 120.0
POLL_S = 0.1


def cache_dir() -> Path:
    """Where images are kept from one run to the next."""
    if os.geteuid() == 0:
        return Path("/var/cache/firerunner")
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "firerunner"


def demo_recipe(runner_binary: Path | None) -> Recipe:
    """What the demo's machines boot from; one image for each kind of runner, so that both are kept."""
    given = runner_binary or os.environ.get(ENVIRONMENT_VARIABLE)
    return Recipe(name="demo-official" if given else "demo")


@dataclass(slots=True)
class Stage:
    """Everything that a run uses, alive until the `set_up` block ends."""

    directory: Path
    config: Path
    settings: Settings
    gitlab: FakeGitLab
    project: Project
    ledger: Ledger
    service: Supervisor = field(repr=False)


class Supervisor:
    """Starts the service and, like an init system, starts it again when it dies."""

    def __init__(self, config: Path, log: Path, restart_after_s: float) -> None:
        self._config = config
        self._log = log
        self._restart_after_s = restart_after_s
        self._process: Process | None = None
        self._running: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def command(self) -> list[str]:
        """How to start it by hand."""
        return [sys.executable, "-m", "firerunner", "serve", "--config", str(self._config)]

    @property
    def pid(self) -> int | None:
        """The running service's process id."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        """Keep one service running from now on."""
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self.command, stdin=DEVNULL, stdout=DEVNULL, stderr=log, start_new_session=True
                )
            await self._process.wait()
            self.restarts += 1
            await asyncio.sleep(self._restart_after_s)

    async def finish(self) -> None:
        """Ask whoever serves to finish, and wait until it has; kill what does not.

        That may be a service which somebody has started by hand after killing ours.
        """
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for sign in (signal.SIGINT, signal.SIGKILL):
            deadline = time.monotonic() + FINISH_S
            for pid in self._serving():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            while self._serving() and time.monotonic() < deadline:
                await asyncio.sleep(POLL_S)

    def _serving(self) -> list[int]:
        """Processes that serve this configuration."""
        return [pid for pid in processes_of(self._config) if _is_running(pid)]


@contextlib.asynccontextmanager
async def set_up(
    store: Path, image: str, *, restart_after_s: float = RESTART_S, egress: Sequence[str] = ("gitlab",)
) -> AsyncIterator[Stage]:
    """Build the stage with an image from `store`; take all of it away afterwards, whatever happens."""
    directory = Path(tempfile.mkdtemp(prefix="firerunner-demo-"))
    directory.chmod(0o711)
    try:
        async with contextlib.AsyncExitStack() as stack:
            yield await _build(directory, store, image, restart_after_s, egress, stack)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _build(
    directory: Path,
    store: Path,
    image: str,
    restart_after_s: float,
    egress: Sequence[str],
    stack: contextlib.AsyncExitStack,
) -> Stage:
    gitlab = await stack.enter_async_context(
        FakeGitLab(directory / "gitlab", external_url=f"http://{GITLAB_NAME}:PORT")
    )
    project = await gitlab.add_project(PROJECT, project_files())
    web, gate, secret = _free_port(), _free_port(), secrets.token_urlsafe(16)
    gitlab.add_hook(project, f"http://127.0.0.1:{web}/webhook", token=secret)
    pools = [
        {
            "name": pool.name,
            "runner_token": gitlab.add_runner(
                [pool.name], run_untagged=False, description=f"pool {pool.name}"
            ),
            "image": image,
            "vcpu": pool.vcpu,
            "memory_mib": pool.memory_mib,
            "disk_mib": 1024,
            "limit": 4,
            "egress": list(egress),
            "max_job_time": "10m",
        }
        for pool in POOLS
    ]
    config = directory / "config.yaml"
    described: dict[str, Any] = {
        "gitlab": {"url": gitlab.url, "clone_url": gitlab.external_url},
        "state_dir": str(directory / "state"),
        "image_dir": str(store),
        "listen": {"web": f"127.0.0.1:{web}", "gate": f"127.0.0.1:{gate}"},
        "webhook": {"secret": secret},
        "pools": pools,
    }
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(described, sort_keys=False))
    settings = load_settings(config)
    settings.state_dir.mkdir(mode=0o711)
    ledger = await stack.enter_async_context(open_ledger(settings))
    service = Supervisor(config, directory / "service.log", restart_after_s)
    service.start()
    stack.push_async_callback(service.finish)
    return Stage(directory, config, settings, gitlab, project, ledger, service)


def _is_running(pid: int) -> bool:
    """False for a zombie, which only waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
