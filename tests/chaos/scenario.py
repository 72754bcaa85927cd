"""One simulated scenario: some jobs, the service dies once or twice at chosen points, and what is then."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from firerunner.fakes.gitlab.model import Job
from tests.sim.power import Power
from tests.sim.world import Options, World, simulated

KINDS = ("ok", "ok", "fails", "long", "dies", "cancel")
ENDS = {
    "ok": ("success", None),
    "long": ("success", None),
    "fails": ("failed", "script_failure"),
    "dies": ("failed", "runner_system_failure"),
    "cancel": ("canceled", None),
}
WINDOW = ("POST jobs/request: after", "Ledger.take: before")
"""Between GitLab's 201 and our commit."""


@dataclass
class Verdict:
    """What is wrong, in words; nothing of it may be there."""

    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    """Jobs that ran well and were ended by us; they are among the lost."""
    killed_at: list[str] = field(default_factory=list)
    in_window: int = 0
    """Jobs whose hand-over was lost in the window."""
    found: int = 0
    """Those of them that were found by look-up and run again."""
    points: Counter[str] = field(default_factory=Counter)


def kinds_of(seed: int) -> list[str]:
    """Three to five jobs."""
    chance = random.Random(seed)
    return [chance.choice(KINDS) for _ in range(chance.randrange(3, 6))]


def options_of(seed: int) -> Options:
    """In two of three scenarios the pool keeps warm machines, which do not wait long."""
    return Options(seed, pool={"warm": {"count": seed % 3, "max_age": 60.0}})


async def play(
    folder: Path,
    seed: int,
    deaths: list[int | tuple[str, int]],
    *,
    template: Path | None = None,
    options: Options | None = None,
    patience_s: float = 4 * 3600.0,
) -> Verdict:
    """Run the seed's jobs; the service dies at each of `deaths` in turn and is started again."""
    verdict = Verdict()
    async with simulated(folder, options or options_of(seed), template) as world:
        jobs = world.pipeline(["long" if kind == "cancel" else kind for kind in kinds_of(seed)])
        to_cancel = {job.name for job, kind in zip(jobs, kinds_of(seed), strict=True) if kind == "cancel"}
        canceling = asyncio.create_task(_cancel(world, to_cancel))
        for death in deaths:
            process = await world.start(Power(death))
            await _until_dead_or_done(world, process.power)
            if process.power.on and all(job.finished for job in world.gitlab.jobs()):
                await asyncio.sleep(8.0)  # machines go, records are removed: more points
            verdict.points += process.power.names
            if process.power.on:
                await world.kill()
            else:
                verdict.killed_at.append(await world.kill())
        await world.start()
        ended = await world.all_ended(patience_s)
        canceling.cancel()
        verdict.points += world.process.power.names if world.process else Counter()
        finished = await world.finish()
        _judge(world, verdict, to_cancel)
        if not ended:
            verdict.lost.append("GitLab has open jobs")
        verdict.leaked += await world.leftovers()
        if not finished:
            verdict.leaked.append(f"it does not finish: {await world.states()}")
    return verdict


async def _cancel(world: World, names: set[str]) -> None:
    """A user cancels these jobs a while after they have begun."""
    canceled: set[str] = set()
    while canceled != names:
        for job in world.gitlab.jobs():
            if job.name in names - canceled and job.status == "running":
                await asyncio.sleep(world.options.seed % 9)
                world.gitlab.cancel(job)
                canceled.add(job.name)
        await asyncio.sleep(0.5)


async def _until_dead_or_done(world: World, power: Power) -> None:
    dying = asyncio.ensure_future(power.lost.wait())
    ending = asyncio.ensure_future(world.all_ended())
    await asyncio.wait({dying, ending}, return_when=asyncio.FIRST_COMPLETED)
    if not dying.done():
        await asyncio.wait({dying}, timeout=8.0)
    for task in (dying, ending):
        task.cancel()
    await asyncio.gather(dying, ending, return_exceptions=True)


def _judge(world: World, verdict: Verdict, to_cancel: set[str]) -> None:
    chains: dict[str, list[Job]] = {}
    for job in world.gitlab.jobs():
        chains.setdefault(job.name, []).append(job)
        if job.handed_out > 1:
            verdict.twice.append(f"{job.name} was handed out {job.handed_out} times")
    for name, chain in chains.items():
        last, ran = chain[-1], sum(world.lives.ran[job.id] for job in chain)
        kind = "cancel" if name in to_cancel else name.partition("-")[0]
        wanted = {ENDS[kind], ENDS["long"]} if kind == "cancel" else {ENDS[kind]}
        if (last.status.value, last.failure_reason) not in wanted:
            verdict.lost.append(f"{name} ended {last.status.value} {last.failure_reason or ''}")
            if ran and kind in {"ok", "long", "fails"}:
                verdict.killed.append(f"{name} was running")
        if ran > 1:
            verdict.twice.append(f"{name} ran {ran} times")
        told = world.lives.told.get(last.id, 0)
        if last.status.value == "success" and len(last.trace) != told:
            verdict.lost.append(f"{name}: GitLab has {len(last.trace)} bytes of its log, not {told}")
        for job in chain[:-1]:
            verdict.in_window += 1
            verdict.found += job.status.value == "canceled"
