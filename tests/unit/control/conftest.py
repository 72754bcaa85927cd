"""A whole FireRunner in one process: real ledger, gate and loop; a fake GitLab; coroutines as machines."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from pydantic import SecretStr

from firerunner.control import Context, Controller, KnownPools, Stop
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.model import Job, Pipeline
from firerunner.fakes.machines import FakeDriver
from firerunner.gate import GateEvent, GuestFacts, create_gate
from firerunner.gitlab import GitLabCalls, JobClient, RestClient, RunnerClient, RunnersClient, new_http
from firerunner.ledger import JobRecord, JobState, Keyring, Ledger, MachineRecord, MachineState
from firerunner.serving import served
from firerunner.settings import GitLabSettings, PoolSettings
from firerunner.telemetry import Metrics
from tests.scene.paper import paper_image

Found = TypeVar("Found")
WAIT_S = 20.0

CI = """
stages: [test]
one:
  stage: test
  script: [echo hello]
  retry: {max: 1, when: [runner_system_failure]}
"""


class World:
    """What a test holds. `start` and `stop` a controller as often as it likes on the same ledger."""

    def __init__(self, directory: Path, gitlab: FakeGitLab, stack: AsyncExitStack) -> None:
        self.directory = directory
        self.gitlab = gitlab
        self.driver = FakeDriver()
        self.drivers = {"local": self.driver}
        self.metrics = Metrics()
        self.limit = 4
        self.facts: dict[str, Any] = {}
        """More that the gate knows of each machine."""
        self.options: dict[str, Any] = {}
        """More settings of the pool, for the next start."""
        self.api_token: str | None = None
        """If set, what GitLab's REST API is used with."""
        self.ahead_s = 0.0
        """How far the controller's clock is ahead."""
        self._stack = stack
        self._image = paper_image()
        self.token = gitlab.add_runner(["small"], run_untagged=True)

    async def open(self) -> None:
        """Everything but the controller."""
        self.ledger = await Ledger.open(
            f"sqlite:///{self.directory / 'ledger.db'}",
            Keyring.load_or_create(self.directory / "ledger.key"),
            self.clock,
        )
        self._stack.push_async_callback(self.ledger.aclose)
        self._stack.push_async_callback(self.driver.aclose)
        self._http = await self._stack.enter_async_context(new_http())
        self.project = await self.gitlab.add_project("demo/app", {".gitlab-ci.yml": CI})
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.gate_address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.job_calls = JobClient(self.gitlab.url, self._http)
        self.job_clients = {"gitlab": self.job_calls}
        self._calls = GitLabCalls(
            asks=RunnerClient(self.gitlab.url, self._http),
            jobs=self.job_calls,
            runners=RunnersClient(self.gitlab.url, self._http),
        )
        self.gate = create_gate(
            ledger=self.ledger,
            gitlab=self.job_clients.__getitem__,
            facts=lambda machine: GuestFacts(
                gate_url=f"http://{self.gate_address}/m/{machine.machine_id}",
                clone_url=self.gitlab.url,
                **self.facts,
            ),
            notify=self._observe,
        )
        await self._stack.enter_async_context(served(self.gate, self.listener))

    def clock(self) -> float:
        """Now, as the ledger and the controller see it."""
        return time.time() + self.ahead_s

    def _observe(self, event: GateEvent) -> None:
        self.controller.observe_gate(event)

    async def start(self) -> None:
        """A new controller, as after a start of the service."""
        epoch = await self.ledger.lead(f"test-{time.time_ns()}", force=True)
        settings = {
            "name": "small",
            "gitlab": "gitlab",
            "runner_token": SecretStr(self.token),
            "image": "demo",
            "memory_mib": 256,
            "disk_mib": 1024,
            "limit": self.limit,
            "check_interval": 0.5,
        }
        pool = PoolSettings.model_validate(settings | self.options)
        self.context = Context(
            ledger=self.ledger.acting_as(epoch),
            drivers=self.drivers,
            gitlab=lambda name: self._calls,
            egress=lambda pool: pool.outside(GitLabSettings(url=self.gitlab.url).destination),
            pools=KnownPools({"small": pool}),
            resolve_image=lambda reference: self._image,
            gate_address=self.gate_address,
            metrics=self.metrics,
            clock=self.clock,
            log=structlog.get_logger("test"),
            wake_gate=self.gate.wake,
            spoke_at=self.gate.spoke_at,
            heard_at=self.gate.heard_at,
            rest=lambda name: self._rest(),
        )
        self.controller = Controller(self.context, keep_s=86_400)
        self.gate.open()
        self._running = asyncio.create_task(self.controller.run())

    def _rest(self) -> RestClient | None:
        if self.api_token is None:
            return None
        client = RestClient(self.gitlab.url, self.api_token)
        self._stack.push_async_callback(client.aclose)
        return client

    async def crash(self) -> None:
        """End the controller as SIGKILL does: nothing is finished, nothing written down."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    async def finish(self) -> None:
        """Stop as Ctrl-C does, and wait until it has."""
        self.controller.request_stop(Stop.FINISH)
        async with asyncio.timeout(WAIT_S):
            await self._running

    async def hand_over(self) -> None:
        """Stop as SIGTERM does, and wait until it has."""
        self.controller.request_stop(Stop.HAND_OVER)
        async with asyncio.timeout(WAIT_S):
            await self._running

    async def pipeline(self) -> tuple[Pipeline, Job]:
        """A pipeline with the one job."""
        pipeline = await self.gitlab.run_pipeline(self.project)
        return pipeline, self.gitlab.job("one", pipeline)

    async def ended(self, job: Job) -> Job:
        """Wait until GitLab says so. A controller that breaks off meanwhile breaks the test off."""
        waiting = asyncio.create_task(self.gitlab.wait_for_job(job, timeout_s=WAIT_S))
        await asyncio.wait({waiting, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if self._running.done() and not self._running.cancelled() and not waiting.done():
            waiting.cancel()
            self._running.result()
        return await waiting

    async def until(self, look: Callable[[], Any]) -> Any:
        """Wait until `look`, a coroutine function, gives something true."""
        async with asyncio.timeout(WAIT_S):
            while not (found := await look()):
                await asyncio.sleep(0.02)
        return found

    async def machines(self) -> list[MachineRecord]:
        """All that ever were."""
        return await self.ledger.machines(frozenset(MachineState))

    async def jobs(self) -> list[JobRecord]:
        """All that ever were."""
        return await self.ledger.jobs(frozenset(JobState))

    async def check_nothing_left(self) -> None:
        """After a finish: no machine, no manager record, no secret, every job ended."""
        assert await self.ledger.machines() == []
        assert await self.driver.list() == []
        assert self.gitlab.managers() == []
        jobs = await self.jobs()
        assert {job.state for job in jobs} <= {JobState.ENDED, JobState.RETURNED}
        assert [await self.ledger.job_token(job.job_id) for job in jobs] == [None] * len(jobs)
        assert [await self.ledger.payload(job.job_id) for job in jobs] == [None] * len(jobs)
        assert all(job.handed_out <= 1 for job in self.gitlab.jobs())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        gitlab = await stack.enter_async_context(FakeGitLab(tmp_path / "gitlab"))
        world = World(tmp_path, gitlab, stack)
        await world.open()
        await world.start()
        stack.push_async_callback(world.crash)
        stack.callback(world.gate.close)
        yield world
