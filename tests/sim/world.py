"""The simulated world: a GitLab, a host with guests, and a service that can be killed and started again."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import structlog
from pydantic import SecretStr

from firerunner.control import Context, Controller, KnownPools, Stop
from firerunner.errors import LedgerError
from firerunner.fakes.gitlab import FakeGitLab, scheduler
from firerunner.fakes.gitlab.ci_yaml import CiFile, JobSpec
from firerunner.fakes.gitlab.model import Job, Project
from firerunner.fakes.machines import FakeDriver
from firerunner.gate import Gate, GuestFacts, Limits, create_gate
from firerunner.gitlab import GitLabCalls, JobClient, RunnerClient, RunnersClient
from firerunner.gitlab.carrying import ByTransport, Http
from firerunner.ledger import JobState, Keyring, Ledger, MachineState
from firerunner.machines.spec import Resources
from firerunner.settings import GitLabSettings, PoolSettings
from firerunner.telemetry import Metrics
from tests.scene.paper import paper_image
from tests.sim.guests import Lives
from tests.sim.hosts import Mood, SimDriver
from tests.sim.power import Power
from tests.sim.rest import SimRest
from tests.sim.timeline import timeline
from tests.sim.wires import ToGate, ToGitLab, Weather, powered

URL = "http://gitlab"
MANY = Limits(requests_per_s=1e9, burst=10**9, concurrent=10**6)
"""The gate's limits go by the real clock, and here an hour passes in a second."""


@dataclass
class Options:
    """How the world is."""

    seed: int
    limit: int = 4
    api_token: bool = True
    bad_gitlab: float = 0.0
    bad_host: float = 0.0
    broken_guests: float = 0.0
    keep_s: float = 14 * 86_400.0
    check_interval_s: float = 3.0
    pool: dict[str, Any] = field(default_factory=dict)


@dataclass
class Process:
    """One run of the service."""

    power: Power
    ledger: Ledger
    gate: Gate
    controller: Controller
    running: asyncio.Task[None]
    http: httpx.AsyncClient


class World:
    """Use `simulated`."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.options = options
        self.folder = folder
        self.clock = timeline().clock
        self.gitlab = FakeGitLab(folder / "gitlab", clock=self.clock)
        self.gitlab.world.external_url = self.gitlab.url = URL
        self.project = Project(11, "demo/app", folder, self.clock())
        self.gitlab.world.projects[11] = self.project
        self.token = self.gitlab.add_runner(["small"], run_untagged=True)
        self.weather = Weather(options.seed, options.bad_gitlab)
        self.mood = Mood(options.seed + 1, options.bad_host)
        self.lives = Lives(options.seed + 2, options.broken_guests)
        room = Resources(2 * options.limit, 512 * options.limit, 2048 * options.limit)
        self.host = FakeDriver(room=room, life=self.lives.live)
        self.host._http = httpx.AsyncClient(transport=ToGate(self._serving), timeout=330)
        self.process: Process | None = None
        self.fault: Exception | None = None
        """What every write of the ledger fails with, while it is set."""
        self.kinds: dict[tuple[int, str], str] = {}
        """What each job of a pipeline is, where its name does not say it."""
        self._image = paper_image()
        self._pipelines = itertools.count(101)

    def _serving(self) -> tuple[Any, Power] | None:
        process = self.process
        return (process.gate, process.power) if process is not None and process.power.on else None

    # The service

    async def start(self, power: Power | None = None) -> Process:
        """A new process; its `power` may fail by itself, and then `kill` takes away what is left of it."""
        power = power or Power()
        plain = await Ledger.open(f"sqlite:///{self.folder / 'ledger.db'}", self._keys(), self.clock)
        ledger = powered(plain, power, lambda: self.fault)
        http = Http(ByTransport(ToGitLab(self.gitlab._book, self.weather, self.clock, power)))
        holder: dict[str, Controller] = {}
        gate = create_gate(
            ledger=ledger,
            gitlab=lambda name: JobClient(URL, http, clock=self.clock),
            facts=lambda machine: GuestFacts(f"http://gate/m/{machine.machine_id}", URL),
            notify=lambda event: holder["controller"].observe_gate(event),  # noqa: PLW0108 (it comes later)
            clock=self.clock,
            limits=MANY,
        )
        epoch = await plain.lead(f"run-{timeline().now}", force=True)
        context = self._context(ledger.acting_as(epoch), gate, http, power)
        controller = holder["controller"] = Controller(context, keep_s=self.options.keep_s)
        gate.open()
        running = asyncio.create_task(controller.run())
        self.process = Process(power, ledger, gate, controller, running, http)
        return self.process

    def _context(self, ours: Ledger, gate: Gate, http: httpx.AsyncClient, power: Power) -> Context:
        settings = {
            "name": "small",
            "gitlab": "gitlab",
            "runner_token": SecretStr(self.token),
            "image": "demo",
            "vcpu": 1,
            "memory_mib": 256,
            "disk_mib": 1024,
            "limit": self.options.limit,
            "check_interval": self.options.check_interval_s,
        }
        pool = PoolSettings.model_validate(settings | self.options.pool)
        calls = GitLabCalls(
            asks=RunnerClient(URL, http, clock=self.clock),
            jobs=JobClient(URL, http, clock=self.clock),
            runners=RunnersClient(URL, http, clock=self.clock),
        )
        rest = SimRest(http, self.gitlab.api_token) if self.options.api_token else None
        return Context(
            ledger=ours,
            drivers={"local": SimDriver(self.host, self.mood, power)},
            gitlab=lambda name: calls,
            egress=lambda pool: pool.outside(GitLabSettings(url=URL).destination),
            pools=KnownPools({"small": pool}),
            resolve_image=lambda reference: self._image,
            gate_address="gate:80",
            metrics=Metrics(),
            clock=self.clock,
            log=structlog.get_logger("sim"),
            wake_gate=gate.wake,
            spoke_at=gate.spoke_at,
            heard_at=gate.heard_at,
            rest=lambda name: rest,  # type: ignore[arg-type, return-value]
        )

    def _keys(self) -> Keyring:
        return Keyring.load_or_create(self.folder / "key")

    async def kill(self) -> str:
        """As SIGKILL; the name of the point at which it happened."""
        process = self._process()
        if process.power.on:
            process.power.cut("at random")
        process.running.cancel()
        await asyncio.gather(process.running, return_exceptions=True)
        await self._close(process)
        self.process = None
        return process.power.failed_at

    async def _close(self, process: Process) -> None:
        await process.http.aclose()
        await process.ledger._access.engine.dispose()

    async def finish(self, patience_s: float = 7200.0) -> bool:
        """Stop as Ctrl-C does. False if it does not end."""
        process = self._process()
        process.controller.request_stop(Stop.FINISH)
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.shield(process.running)
        except TimeoutError:
            return False
        await process.ledger.aclose()
        await process.http.aclose()
        self.process = None
        return True

    def _process(self) -> Process:
        assert self.process is not None
        return self.process

    # GitLab

    def pipeline(self, kinds: Sequence[str]) -> list[Job]:
        """Jobs of these kinds become pending (`Lives` says what each does)."""
        specs = tuple(
            JobSpec(
                f"{kind}-{number}", "test", ("run",), timeout_s=600 if kind in {"stuck", "mute"} else None
            )
            for number, kind in enumerate(kinds)
        )
        pipeline = scheduler.create_pipeline(
            self.gitlab.world,
            self.project,
            CiFile(("test",), {}, specs),
            pipeline_id=next(self._pipelines),
            ref="main",
            tag=False,
            sha="0" * 40,
            before_sha="0" * 40,
            message="m",
            variables={},
        )
        return pipeline.jobs

    async def all_ended(self, patience_s: float = 4 * 3600.0) -> bool:
        """Until GitLab has no open job."""
        end = timeline().now + patience_s
        while timeline().now < end:
            if all(job.finished for job in self.gitlab.jobs()):
                return True
            await asyncio.sleep(1.0)
        return False

    async def leftovers(self) -> list[str]:
        """What is left of machines and secrets, seen from outside, after a finish."""
        left = [f"machine {each.machine_id} on its host" for each in await self.host.list()]
        left += [f"manager record {each.system_id}" for each in self.gitlab.managers()]
        ledger = await Ledger.open(f"sqlite:///{self.folder / 'ledger.db'}", self._keys(), self.clock)
        try:
            left += [f"machine {each.machine_id} {each.state}" for each in await ledger.machines()]
            left += [f"side effect {each.event} of {each.subject}" for each in await ledger.unfinished()]
            left += [f"unread answer of {machine}" for machine, _ in await ledger.unread_answers()]
            for job in await ledger.jobs(frozenset(JobState)):
                if job.state not in {JobState.ENDED, JobState.RETURNED}:
                    left.append(f"job {job.job_id} {job.state}")
                if await ledger.job_token(job.job_id) or await ledger.payload(job.job_id):
                    left.append(f"secrets of job {job.job_id}")
        finally:
            await ledger.aclose()
        return left

    async def journal_rows(self) -> int:
        """How many there are."""
        with sqlite3.connect(self.folder / "ledger.db") as database:
            count = database.execute("SELECT count(*) FROM journal").fetchone()[0]
        database.close()
        return int(count)

    async def states(self) -> str:
        """For a message: what is where."""
        try:
            ledger = await Ledger.open(f"sqlite:///{self.folder / 'ledger.db'}", self._keys(), self.clock)
        except LedgerError as error:
            return str(error)
        try:
            machines = await ledger.machines(frozenset(MachineState) - {MachineState.GONE})
            return ", ".join(f"{each.machine_id}:{each.state}:{each.reason}" for each in machines)
        finally:
            await ledger.aclose()


@asynccontextmanager
async def simulated(folder: Path, options: Options, template: Path | None = None) -> AsyncIterator[World]:
    """`template`: a ledger that is copied instead of being made."""
    folder.mkdir(parents=True, exist_ok=True)
    if template is not None:
        shutil.copy(template, folder / "ledger.db")
    world = World(folder, options)
    try:
        yield world
    finally:
        if world.process is not None:
            await world.kill()
        await world.host.aclose()
