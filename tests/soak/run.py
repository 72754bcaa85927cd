"""A long life in the simulation: thousands of jobs, and all the while something is wrong somewhere."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firerunner.errors import LedgerError
from firerunner.fakes.gitlab.model import Job, Pipeline
from firerunner.intake import Hook
from tests.sim.timeline import timeline
from tests.sim.world import Options, World, simulated

KINDS = {"ok": 70, "fails": 10, "long": 8, "dies": 6, "cancel": 3, "stuck": 2, "mute": 1}
ENDS = {
    "ok": {("success", None)},
    "long": {("success", None)},
    "fails": {("failed", "script_failure")},
    "dies": {("failed", "runner_system_failure")},
    "cancel": {("canceled", None), ("success", None)},
    "stuck": {("success", None), ("failed", "runner_system_failure")},
    "mute": {("failed", "runner_system_failure")},
}
GIVEN_BACK = ("failed", "runner_system_failure")
"""Any job may end so where its machines or GitLab's answers fail too often; its author's `retry:` acts."""

TROUBLES = ("kill", "kill", "kill", "storm", "away", "host storm", "blind", "full", "ledger")
BACKLOG = 60
LIMIT = 80
KEEP_S = 2 * 3600.0
FIRST_LOOK = 2000
"""Jobs after which the memory is read for the first time."""


@dataclass
class Soak:
    """What has been seen."""

    ended: int = 0
    given_back: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    """Jobs that ran well and were ended by us."""
    kills: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    rss_first_kib: int = 0
    rss_last_kib: int = 0
    ledger_bytes: int = 0
    journal_rows: int = 0
    hours: float = 0.0
    disrespected: int = 0
    weather: Counter[str] = field(default_factory=Counter)
    host: Counter[str] = field(default_factory=Counter)


async def live(folder: Path, jobs: int, seed: int, say: Callable[[Soak], None]) -> Soak:
    """So many jobs; `say` is called now and then."""
    chance, soak = random.Random(seed), Soak()
    options = Options(
        seed,
        limit=LIMIT,
        bad_gitlab=0.02,
        bad_host=0.01,
        broken_guests=0.03,
        keep_s=KEEP_S,
        pool={"max_job_time": 4 * 3600.0, "warm": {"count": 2, "max_age": 300.0}},
    )
    async with simulated(folder, options) as world:
        world.project.timeout_s = 3 * 3600
        await world.start()
        acts = [_feed(world, chance, jobs, soak), _trouble(world, chance, soak), _hooks(world, chance)]
        tasks = [asyncio.create_task(act) for act in acts]
        try:
            await _watch(world, soak, jobs, say, tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        world.weather.bad = world.mood.bad = 0.0
        world.weather.away = world.mood.full = world.host.blind = False
        world.fault = None
        if world.process is None:
            await world.start()
        if not await _come_to_rest(world):
            soak.lost += [
                f"{job.name} is still {job.status.value}" for job in world.gitlab.jobs() if not job.finished
            ]
        _judge(world, soak, last=True)
        if not await world.finish():
            soak.leaked.append(f"it does not finish: {await world.states()}")
        soak.leaked += await world.leftovers()
        soak.rss_last_kib = _rss_kib()
        soak.journal_rows = await world.journal_rows()
        soak.ledger_bytes = (folder / "ledger.db").stat().st_size
        soak.hours = timeline().now / 3600.0
        soak.disrespected = world.weather.disrespected
        soak.weather, soak.host = world.weather.done, world.mood.done
    return soak


async def _watch(
    world: World, soak: Soak, jobs: int, say: Callable[[Soak], None], tasks: list[asyncio.Task[Any]]
) -> None:
    while soak.ended < jobs:
        await asyncio.sleep(10.0)
        for task in tasks:
            if task.done() and (error := task.exception()) is not None:
                raise error
        _judge(world, soak)
        world.host.created.clear()
        world.host.destroyed.clear()
        world.gitlab.world.asks.clear()
        world.gitlab._book.calls.clear()
        if not soak.rss_first_kib and soak.ended >= min(FIRST_LOOK, jobs // 2):
            soak.rss_first_kib = _rss_kib()
        say(soak)


async def _feed(world: World, chance: random.Random, jobs: int, soak: Soak) -> None:
    made = 0
    while made < jobs:
        waiting = sum(1 for job in world.gitlab.jobs() if job.status == "pending")
        if waiting < BACKLOG:
            kinds = chance.choices(list(KINDS), list(KINDS.values()), k=min(10, jobs - made))
            pipeline = world.pipeline(["long" if kind == "cancel" else kind for kind in kinds])
            for job, kind in zip(pipeline, kinds, strict=True):
                world.kinds[job.pipeline.id, job.name] = kind
            made += len(kinds)
        await asyncio.sleep(chance.expovariate(0.5))
        for job in world.gitlab.jobs():
            if world.kinds.get((job.pipeline.id, job.name)) == "cancel" and job.status == "running":
                world.gitlab.cancel(job)


async def _trouble(world: World, chance: random.Random, soak: Soak) -> None:
    """One thing after another goes wrong, for a while."""
    while True:
        await asyncio.sleep(chance.expovariate(1 / 25))
        kind = chance.choice(
            ["kill", "kill", "kill", "storm", "away", "host storm", "blind", "full", "ledger"]
        )
        if chance.random() < 0.01:
            kind = "away for an hour"
        soak.troubles[kind] += 1
        if kind == "kill":
            await world.kill()
            soak.kills += 1
            await asyncio.sleep(chance.choice([0.1, 1.0, 5.0, 60.0]))
            await world.start()
        elif kind == "storm":
            world.weather.bad = 0.3
            await asyncio.sleep(chance.uniform(30, 300))
            world.weather.bad = world.options.bad_gitlab
        elif kind.startswith("away"):
            world.weather.away = True
            await asyncio.sleep(3600.0 if "hour" in kind else chance.uniform(5, 60))
            world.weather.away = False
        elif kind == "host storm":
            world.mood.bad = 0.3
            await asyncio.sleep(chance.uniform(10, 120))
            world.mood.bad = world.options.bad_host
        elif kind == "blind":
            world.host.blind = True
            await asyncio.sleep(chance.uniform(5, 60))
            world.host.blind = False
        elif kind == "full":
            world.mood.full = True
            await asyncio.sleep(chance.uniform(5, 60))
            world.mood.full = False
        else:
            world.fault = LedgerError("the database is gone")
            await asyncio.sleep(chance.uniform(1, 30))
            world.fault = None


async def _hooks(world: World, chance: random.Random) -> None:
    """Hooks are lost, doubled, late, and from last week."""
    hook = Hook("build", 11, True, ("gitlab",))
    while True:
        await asyncio.sleep(chance.expovariate(0.2))
        for _ in range(chance.choice([0, 0, 1, 1, 10])):
            if world.process is not None:
                world.process.controller.wake(hook)


async def _come_to_rest(world: World, patience_s: float = 4 * 3600.0) -> bool:
    """Until every job has ended, and those whose hand-over was lost have been run again."""
    end = timeline().now + patience_s
    while timeline().now < end:
        pipelines = world.gitlab.world.pipelines.values()
        if all(_is_over(world, pipeline) for pipeline in pipelines):
            return True
        await asyncio.sleep(1.0)
    return False


def _is_over(world: World, pipeline: Pipeline) -> bool:
    """A job that no user has cancelled was lost in its hand-over, found, and is yet to be run again."""
    last = {job.name: job for job in pipeline.jobs}
    return all(
        job.finished and (job.status != "canceled" or world.kinds.get((pipeline.id, job.name)) == "cancel")
        for job in last.values()
    )


def _judge(world: World, soak: Soak, *, last: bool = False) -> None:
    """Take the pipelines that have ended, say what was wrong with them, and forget them."""
    gitlab = world.gitlab.world
    for pipeline in list(gitlab.pipelines.values()):
        if not _is_over(world, pipeline) and not (last and all(job.finished for job in pipeline.jobs)):
            continue
        chains: dict[str, list[Job]] = {}
        for job in pipeline.jobs:
            chains.setdefault(job.name, []).append(job)
            if job.handed_out > 1:
                soak.twice.append(f"{job.name} #{job.id} was handed out {job.handed_out} times")
        for name, chain in chains.items():
            _judge_chain(world, soak, name, chain)
        for job in pipeline.jobs:
            gitlab.jobs.pop(job.id)
            world.lives.ran.pop(job.id, None)
            world.lives.told.pop(job.id, None)
        gitlab.pipelines.pop(pipeline.id)


def _judge_chain(world: World, soak: Soak, name: str, chain: list[Job]) -> None:
    soak.ended += 1
    last, kind = chain[-1], world.kinds.pop((chain[0].pipeline.id, name))
    end = (last.status.value, last.failure_reason)
    ran = sum(world.lives.ran[job.id] for job in chain)
    if ran > 1:
        soak.twice.append(f"{name} #{last.id} ran {ran} times")
    if end not in ENDS[kind]:
        if end == GIVEN_BACK:
            soak.given_back += 1
            if ran:
                soak.killed.append(f"{name} #{last.id} was running: {bytes(last.trace[-200:])!r}")
        else:
            soak.lost.append(f"{name} #{last.id} ended {end}")
    told = world.lives.told.get(last.id, 0)
    if end == ("success", None) and len(last.trace) != told:
        soak.lost.append(f"{name} #{last.id}: {len(last.trace)} bytes of its log in GitLab, not {told}")


def _rss_kib() -> int:
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise LookupError("VmRSS")
