"""Given: a template, the fake GitLab, a ledger, and a Sizing whose clock the test holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from firerunner.control.sizing import LOOK_PAUSE_S, Sizing
from firerunner.fakes.gitlab import FakeGitLab, Job, Project, Runner
from firerunner.gitlab import RestClient
from firerunner.intake import Hook
from firerunner.ledger import Keyring, Ledger, SizedRunner
from firerunner.settings import PoolSettings

WAIT_S = 20.0


def ci(*tags: str, name: str = "two") -> str:
    return f"{name}:\n  tags: [{', '.join(tags)}]\n  script: [echo hello]\n"


@dataclass
class MovingClock:
    """The time, and what the test adds to it."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def template(**sized: Any) -> PoolSettings:
    return PoolSettings.model_validate(
        {
            "name": "sized",
            "gitlab": "gitlab",
            "image": "demo",
            "disk_mib": 1024,
            "check_interval": 0.5,
            "sized": {"max_vcpu": 4, "max_memory_mib": 8192, **sized},
        }
    )


@dataclass
class Bench:
    """What a test holds. `start` and `stop` a Sizing as often as it likes on the same ledger."""

    directory: Path
    gitlab: FakeGitLab
    project: Project
    ledger: Ledger
    clock: MovingClock
    templates: list[PoolSettings] = field(default_factory=lambda: [template()])
    token: str = ""
    pools: list[PoolSettings] = field(default_factory=list)
    declared: list[list[str]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rest = RestClient(self.gitlab.url, self.token or self.gitlab.api_token)
        self._running: asyncio.Task[None] | None = None

    def _set_pools(self, pools: list[PoolSettings]) -> None:
        self.pools = pools
        self.declared.append([pool.name for pool in pools])

    async def start(self) -> None:
        """As after a start of the service."""
        log = structlog.wrap_logger(
            None, processors=[self._keep], wrapper_class=structlog.make_filtering_bound_logger(0)
        )
        self.sizing = Sizing(
            self.ledger, lambda name: self.rest, lambda: self.templates, self._set_pools, self.clock, log
        )
        await self.sizing.restore()
        self._running = asyncio.create_task(self.sizing.run())

    def _keep(self, logger: object, method: str, event: dict[str, Any]) -> str:
        self.log.append({"level": method, **event})
        raise structlog.DropEvent

    async def stop(self) -> None:
        """Where it stands, as a SIGKILL would."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def aclose(self) -> None:
        await self.stop()
        await self.rest.aclose()
        await self.ledger.aclose()

    async def pending(self, *tags: str) -> Job:
        """A new pending job with these tags."""
        await self.gitlab.commit(self.project, {".gitlab-ci.yml": ci(*tags)})
        return self.gitlab.job("two", await self.gitlab.run_pipeline(self.project))

    def hook(self, project: Project | None = None) -> None:
        """A hook of the project has come in, a while after the last one."""
        self.clock.ahead_s += LOOK_PAUSE_S
        project_id = (project or self.project).id
        self.sizing.on_hook(Hook("build", project_id, means_work=True, gitlab=("gitlab",)))

    def runners(self) -> list[Runner]:
        """What there is in GitLab."""
        return list(self.gitlab.world.runners.values())

    async def rows(self) -> list[SizedRunner]:
        """What there is in the ledger."""
        return await self.ledger.sized_runners()

    async def until(self, look: Callable[[], Any]) -> Any:
        """The first true value of `look`, a function or coroutine function."""
        async with asyncio.timeout(WAIT_S):
            while True:
                found = look()
                found = await found if isinstance(found, Awaitable) else found
                if found:
                    return found
                await asyncio.sleep(0.02)

    async def looked(self, times: int = 1) -> None:
        """Until the pending jobs have been looked at so many times more."""
        before = len(self.gitlab.calls("GET", ".*/jobs"))
        await self.until(lambda: len(self.gitlab.calls("GET", ".*/jobs")) >= before + times)

    async def made(self) -> SizedRunner:
        """Until there is exactly one runner, declared as a pool."""
        await self.until(lambda: len(self.pools) == 1)
        (row,) = await self.rows()
        return row


async def new_bench(directory: Path, gitlab: FakeGitLab) -> Bench:
    project = await gitlab.add_project("demo/app", {".gitlab-ci.yml": ci("linux")})
    clock = MovingClock()
    keys = Keyring.load_or_create(directory / "ledger.key")
    ledger = await Ledger.open(f"sqlite:///{directory / 'ledger.db'}", keys, clock)
    return Bench(directory, gitlab, project, ledger, clock)
