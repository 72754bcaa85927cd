"""Several real `firerunner serve` on one ledger; fake GitLab, fake Flintlock, coroutine guests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from firerunner.app import open_ledger
from firerunner.demo.hosts import PUBLISHED
from firerunner.demo.stage import cache_dir, free_port
from firerunner.errors import LedgerError
from firerunner.fakes.flintlock import FakeFlintlock
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.model import Job, Project
from firerunner.images import Image, Store
from firerunner.ledger import LIVE_MACHINES, Ledger
from firerunner.settings import load_settings
from tests.scene.balancer import Balancer, balancing
from tests.scene.guests import GuestVmm

START_S = 30.0
_REPOSITORY = Path(__file__).parents[2]
"""Where a `program` of the tests' own is found."""
SECRET = "canary-webhook-secret"


@dataclass
class ControllerProcess:
    """One `firerunner serve`."""

    name: str
    config: Path
    log: Path
    gate: int
    web: int
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to ours."""
    process: subprocess.Popen[bytes] | None = None
    program: tuple[str, ...] = ("-m", "firerunner")
    """What Python is to run."""

    def start(self) -> None:
        """Does not wait."""
        command = [sys.executable, *self.program, "serve", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.config.parent,
                env={**os.environ, "PYTHONPATH": str(_REPOSITORY), **self.environment},
            )

    async def ready(self) -> dict[str, Any]:
        """What `/ready` says, as soon as it says something."""
        async with asyncio.timeout(START_S), httpx.AsyncClient(trust_env=False) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    return dict((await http.get(f"http://127.0.0.1:{self.web}/ready", timeout=2)).json())
                await asyncio.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        """Send it."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As the kernel does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")


@dataclass
class Scene:
    """Everything; the controllers are not started."""

    gitlab: FakeGitLab
    flintlock: FakeFlintlock
    vmm: GuestVmm
    gates: Balancer
    upstream: Balancer
    controllers: list[ControllerProcess]
    ledger: Ledger
    project: Project

    async def start_all(self) -> None:
        """Until one leads."""
        for each in self.controllers:
            each.start()
        for each in self.controllers:
            await each.ready()
        await self.until(self.leader, START_S)

    async def leader(self) -> ControllerProcess | None:
        """Who leads by the ledger, if it is one that runs."""
        lease = await self.ledger.lease()
        for each in self.controllers:
            if each.process and lease and f"-{each.process.pid}-" in lease.holder:
                return each
        return None

    def others(self, one: ControllerProcess) -> list[ControllerProcess]:
        """All but that one."""
        return [each for each in self.controllers if each is not one]

    async def until(self, look: Callable[[], Any], timeout_s: float = 60.0) -> Any:
        """Wait until `look` gives something true."""
        began = time.monotonic()
        while time.monotonic() - began < timeout_s:
            with contextlib.suppress(LedgerError):  # our own handle's first word after an outage
                found = look()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
            await asyncio.sleep(0.1)
        logs = "\n".join(f"--- {each.name}\n{each.said()[-4000:]}" for each in self.controllers)
        raise AssertionError(f"not within {timeout_s} s; {self.summary()}\n{logs}")

    def summary(self) -> str:
        """The jobs in GitLab."""
        return ", ".join(f"{job.id}:{job.status}:{job.failure_reason or ''}" for job in self.gitlab.jobs())

    async def run_jobs(self, count: int) -> list[Job]:
        """So many become pending."""
        made = []
        for _ in range(count):
            pipeline = await self.gitlab.run_pipeline(self.project)
            made.append(self.gitlab.job("one", pipeline))
        return made

    async def ended(self, jobs: list[Job], timeout_s: float = 90.0) -> None:
        """Until all of them have ended well; a lost hand-over: when run again."""
        await self.until(lambda: all(self._ended_well(job) for job in jobs), timeout_s)

    def _ended_well(self, job: Job) -> bool:
        later = [each for each in job.pipeline.jobs if each.name == job.name and each.id >= job.id]
        return later[-1].status == "success" and all(each.status == "canceled" for each in later[:-1])

    async def check_clean(self) -> None:
        """No job twice, no machine left anywhere."""
        assert all(job.handed_out <= 1 for job in self.gitlab.jobs()), self.summary()

        async def gone() -> bool:
            left = await self.ledger.machines(LIVE_MACHINES)
            idle = [each for each in left if each.room_held or each.state != "reserved"]
            return not idle and not self.flintlock.records

        await self.until(gone, 60.0)


CI = "stages: [test]\none: {stage: test, script: [echo hello]}\n"


@contextlib.asynccontextmanager
async def scene(
    database_url: str | None,
    image: Image,
    count: int = 2,
    *,
    pool: dict[str, Any] | None = None,
    gitlab_more: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    seed: int = 0,
    flintlock_token: str | None = None,
    describe: Callable[[dict[str, Any], FakeGitLab, Path], None] = lambda *_: None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Scene]:
    """`database_url`: None for SQLite, with one controller. `pool`, `gitlab_more` and `more` are settings of
    the pool, of the GitLab and of all. `describe` may change the configuration, before it is written into the
    folder that it is told; `environment` is added to that of the controllers."""
    store = cache_dir() / "images"
    Store(store).note_published(image, PUBLISHED)
    vmm = GuestVmm()
    with tempfile.TemporaryDirectory(prefix="firerunner-scene-") as folder:
        async with contextlib.AsyncExitStack() as stack:
            gitlab = await stack.enter_async_context(FakeGitLab(Path(folder) / "gitlab"))
            stack.push_async_callback(vmm.aclose)
            flintlock = await stack.enter_async_context(FakeFlintlock(vmm=vmm, token=flintlock_token))
            ports = [(free_port(), free_port()) for _ in range(count)]
            gates = await stack.enter_async_context(balancing([gate for gate, _ in ports], seed))
            upstream = await stack.enter_async_context(
                balancing([int(gitlab.url.rpartition(":")[2])], seed + 1)
            )
            project = await gitlab.add_project("demo/app", {".gitlab-ci.yml": CI})
            described = {
                "gitlab": {
                    "url": f"http://127.0.0.1:{upstream.port}",
                    "webhook_secret": SECRET,
                }
                | (gitlab_more or {}),
                "state_dir": f"{folder}/state",
                "image_dir": str(store),
                "pools": [
                    {
                        "name": "small",
                        "runner_token": gitlab.add_runner(["small"], run_untagged=True),
                        "image": image.manifest.digest,
                        "memory_mib": 1024,
                        "disk_mib": 1024,
                        "limit": 8,
                        "check_interval": "1s",
                        "egress": ["gitlab"],
                    }
                    | (pool or {})
                ],
                "hosts": [
                    {
                        "name": "kvm-1",
                        "driver": "flintlock",
                        "address": flintlock.address,
                        "insecure": True,
                        "gate_url": f"http://127.0.0.1:{gates.port}",
                        "vcpu": 16,
                        "memory_mib": 16384,
                        "disk_mib": 65536,
                    }
                ],
            } | ({"database": {"url": database_url}} if database_url else {})
            described |= more or {}
            describe(described, gitlab, Path(folder))
            controllers = [
                _controller(Path(folder), number, described, environment or {}, *ports[number])
                for number in range(count)
            ]
            settings = load_settings(controllers[0].config)
            settings.state_dir.mkdir(mode=0o711)
            ledger = await stack.enter_async_context(open_ledger(settings))
            try:
                yield Scene(gitlab, flintlock, vmm, gates, upstream, controllers, ledger, project)
            finally:
                for each in controllers:
                    with contextlib.suppress(ProcessLookupError):
                        if each.process is not None:
                            os.kill(each.process.pid, signal.SIGCONT)
                    each.kill()


def _controller(
    folder: Path, number: int, described: dict[str, Any], environment: Mapping[str, str], gate: int, web: int
) -> ControllerProcess:
    config = folder / f"controller-{number}.yaml"
    config.touch(mode=0o600)
    config.write_text(
        yaml.safe_dump(described | {"listen": {"web": f"127.0.0.1:{web}", "gate": f"127.0.0.1:{gate}"}})
    )
    return ControllerProcess(f"controller {number}", config, folder / f"log-{number}", gate, web, environment)
