"""One scene: the real service, an honest job, and hostile ones next to it, in one network mode.

`python -m tests.hostile.scene --mode relay` prints what goes on, and one JSON object on the last line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from firerunner.building import build
from firerunner.demo.leftovers import network_names
from firerunner.demo.stage import GITLAB_NAME, Stage, cache_dir, demo_recipe, set_up
from firerunner.fakes.gitlab.model import Job
from firerunner.images import Store
from firerunner.ledger import JobState, MachineState
from tests.e2e.uplink_world import take_name_server
from tests.hostile import attempts, unsafe
from tests.hostile.attack import FULL, GLANCE, LAST_WORDS_OF, QUICK, Measure, honest_files, hostile_files
from tests.hostile.attempts import NO_WORD
from tests.hostile.outside import try_from_outside
from tests.hostile.report import Seen, neighbour_is_hurt, remains
from tests.hostile.watcher import Watcher
from tests.hostile.world import Around, around

EGRESS: dict[str, tuple[str, ...]] = {
    "relay": ("gitlab",),
    "uplink": ("gitlab", "10.0.0.0/8:5432", "*.trusted.test:80", "internet"),
}
Orders = tuple[list[str], list[str]]
START_S, END_S, GONE_S = 240.0, 900.0, 90.0
POLL_S = 0.5
WARM = 1
"""Machines that each pool keeps waiting: hostile jobs get them too."""


class Scene:
    """One mode, from the neighbour's start to the count of what is left."""

    def __init__(self, stage: Stage, mode: str, orders: Orders, measure: Measure, beside: Around) -> None:
        self._stage, self._mode, self._orders = stage, mode, orders
        self._measure, self._beside = measure, beside
        self._nonce = secrets.token_hex(8)
        self._mark = secrets.token_hex(8)
        self._began = time.monotonic()
        self._names_before = network_names()
        self._watcher = Watcher(stage)

    def say(self, text: str) -> None:
        """One line of progress."""
        print(f"{self._mode:6} {time.monotonic() - self._began:6.1f} s  {text}", flush=True)

    async def play(self) -> dict[str, Any]:
        """All of it."""
        watching = asyncio.create_task(self._watcher.run())
        try:
            neighbours, hostile, found = await self._attack()
            await self._until_gone(hostile)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await self._watcher.read_journal()
        seen = Seen(
            mode=self._mode,
            attempts=found,
            visits=list(self._beside.canaries.visits),
            hurt=[text for job in neighbours if (text := await self._hurt(job))],
            lost=[f"{job.name} is {job.status}" for job in (*neighbours, *hostile) if not job.finished],
            twice=await self._twice(),
            unbounded=self._watcher.unbounded(),
            most=self._watcher.most,
            starts=self._watcher.starts,
            ends={job.name: f"{job.status} {job.failure_reason or ''}".strip() for job in hostile},
        )
        self.say("the service finishes, and what is left is counted")
        await self._stage.service.finish()
        seen.leaked = await remains(self._stage, self._names_before, self._watcher.networks)
        return seen.as_json()

    async def _attack(self) -> tuple[list[Job], list[Job], dict[str, str]]:
        gitlab = self._stage.gitlab
        honest = await gitlab.add_project("honest/app", honest_files())
        evil = await gitlab.add_project("hostile/app", hostile_files(self._measure))
        words = {"NONCE": self._nonce, "SECONDS_LONG": str(self._measure.neighbour_s)}
        first = gitlab.job("neighbour", await gitlab.run_pipeline(honest, variables=words))
        await gitlab.wait_for(lambda: b"says 2" in bytes(first.trace), START_S)
        other = await self._machine_of(first)
        self.say(f"the neighbour works in {other}; the hostile jobs come")
        pipeline = await gitlab.run_pipeline(evil, variables=self._variables(first, other))
        hostile = gitlab.jobs(pipeline)
        leaky = next(job for job in hostile if job.name == "leaky")
        outside = asyncio.create_task(try_from_outside(self._stage, leaky, other, self.say))
        try:
            await self._follow([*hostile, first])
            found = await outside
        finally:
            outside.cancel()
            await asyncio.gather(outside, return_exceptions=True)
        self.say("one more honest job, after the attack")
        words["SECONDS_LONG"] = "3"
        late = gitlab.job("neighbour", await gitlab.run_pipeline(honest, variables=words))
        await gitlab.wait_for_job(late, timeout_s=START_S)
        return [first, late], hostile, self._results(hostile) | found

    def _variables(self, first: Job, other: str) -> dict[str, str]:
        crowd, alone = self._orders
        listen = self._stage.settings.listen
        return self._beside.variables | {
            "TRIES": " ".join(crowd),
            "ALONE": " ".join(alone),
            "OTHER_MACHINE": other,
            "OTHER_JOB": str(first.id),
            "MARK": self._mark,
            "GATE": listen.gate.rpartition(":")[2],
            "WEB": listen.web.rpartition(":")[2],
            "GITLAB_NAME": GITLAB_NAME,
            "GITLAB": str(urlsplit(self._stage.gitlab.url).port),
            "FLOOD": str(self._measure.flood),
            "FLOOD_S": str(self._measure.flood_s),
            "TRACE_BYTES": str(self._measure.trace_bytes),
            "END_BY": self._measure.end_by,
        }

    async def _follow(self, jobs: list[Job]) -> None:
        """Say what they say, until all have ended. Raises TimeoutError."""
        told = set[str]()
        over = set[int]()
        async with asyncio.timeout(END_S):
            while len(over) < len(jobs):
                for job in jobs:
                    for name, result in self._said(job).items():
                        if name not in told:
                            told.add(name)
                            self.say(f"  {name}: {result}")
                    if job.finished and job.id not in over:
                        over.add(job.id)
                        self.say(f"{job.name} has ended: {job.status} {job.failure_reason or ''}")
                await asyncio.sleep(POLL_S)

    def _said(self, job: Job) -> dict[str, str]:
        return {} if job.name == "neighbour" else attempts.results(self._stage.gitlab.trace(job))

    def _results(self, hostile: list[Job]) -> dict[str, str]:
        found = dict.fromkeys([*self._orders[0], *self._orders[1]], NO_WORD)
        for job in hostile:
            found |= dict.fromkeys(LAST_WORDS_OF.get(job.name, ()), NO_WORD) | self._said(job)
        return found

    async def _machine_of(self, job: Job) -> str:
        record = await self._stage.ledger.job(job.id)
        assert record is not None
        return record.machine_id or ""

    async def _until_gone(self, jobs: list[Job]) -> None:
        """Until no machine of theirs is there any more. What stays is counted later."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GONE_S):
                while True:
                    there = {machine.job_id for machine in await self._stage.ledger.machines()}
                    if not there & {job.id for job in jobs}:
                        break
                    await asyncio.sleep(POLL_S)

    async def _hurt(self, job: Job) -> str | None:
        return neighbour_is_hurt(self._stage.gitlab, job, self._nonce, self._mark)

    async def _twice(self) -> list[str]:
        """Jobs that were handed out more than once, and machines that had more than one."""
        found = [f"{job.name} {job.id}" for job in self._stage.gitlab.jobs() if job.handed_out > 1]
        records = await self._stage.ledger.jobs(frozenset(JobState))
        machines = [record.machine_id for record in records if record.machine_id]
        found += sorted({each for each in machines if machines.count(each) > 1})
        booted = await self._stage.ledger.machines(frozenset(MachineState))
        return found + [machine.machine_id for machine in booted if machine.boots > 1]


async def run(mode: str, orders: Orders, measure: Measure, switched_off: str | None, directory: Path) -> None:
    """Play the scene and print the outcome."""
    store = Store(cache_dir() / "images")
    image = await build(demo_recipe(None), store)
    if mode == "uplink":
        take_name_server(directory)
    async with around(mode) as beside:
        if switched_off:
            unsafe.switch_off(switched_off, beside.variables["LOOPBACK"], directory / "site")
        store, digest = cache_dir() / "images", image.manifest.digest
        async with set_up(store, digest, egress=EGRESS[mode], warm=WARM) as stage:
            scene = Scene(stage, mode, orders, measure, beside)
            try:
                outcome = await scene.play()
            except BaseException:
                print(stage.service.log_tail(3000), flush=True)
                raise
    print(json.dumps(outcome), flush=True)


def main() -> None:
    """Read the arguments; end in good order at SIGTERM too."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=sorted(EGRESS), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--switch-off", choices=unsafe.CHOICES)
    parser.add_argument("--tries", default="")
    parser.add_argument("--directory", type=Path, required=True)
    given = parser.parse_args()

    async def until_told() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        only = frozenset(given.tries.split(",") if given.tries else ())
        measure = GLANCE if only else QUICK if given.quick else FULL
        orders = attempts.orders(given.mode, given.seed, only)
        await run(given.mode, orders, measure, given.switch_off, given.directory)

    asyncio.run(until_told())


if __name__ == "__main__":
    main()
