"""churn: real jobs a minute, back to back and 2 at a time, beside a bare loop that runs the same script.

The bare loop boots the same image in a machine of the same shape, runs the script in place of gitlab-runner,
and reboots: no GitLab, no runner, no service. Both are over when their last machine is gone. So FireRunner
has to earn back what gitlab-runner itself costs in each guest, by what it saves at the start of machines.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.bare import Bench, bare_guest, new_bench
from bench.rows import Goal, Row, measured
from bench.scene import GIVE_UP_S, Scene, demo_image, scene
from firerunner.cli.output import errors
from firerunner.fakes.gitlab.model import Project

ROUNDS, JOBS, AT_ONCE = 5, 6, 2
AT_LEAST = 0.9
POOL = "churn"
SCRIPT = "tar -c /usr/bin /usr/lib/git-core | sha256sum"
"""What each job does: some seconds of reading and computing under emulation."""

JOB = """
job-{number}:
  stage: test
  tags: [{tag}]
  variables: {{GIT_STRATEGY: none}}
  script: ["{script}"]
"""


async def measure(rounds: int = ROUNDS) -> list[Row]:
    """The two in turn, in the opposite order each second round."""
    image = await demo_image()
    spent: dict[str, list[float]] = {"service": [], "loop": []}
    async with scene(image, {POOL: {"limit": AT_ONCE}}) as it:
        bench = await new_bench(image, it.gitlab)
        project = await it.add_project(POOL, _ci())
        sides: dict[str, Callable[[], Awaitable[None]]] = {
            "service": lambda: _service(it, project),
            "loop": lambda: _loop(bench),
        }
        for turn in range(rounds):
            errors.print(f"churn: round {turn + 1} of {rounds}")
            for name in list(sides)[:: -1 if turn % 2 else 1]:
                began = time.monotonic()
                await sides[name]()
                spent[name].append(time.monotonic() - began)
    return rows(spent["service"], spent["loop"])


def rows(service: list[float], loop: list[float]) -> list[Row]:
    """The table, out of the seconds that `JOBS` jobs took each time."""
    ours, bare = ([60 * JOBS / seconds for seconds in side] for side in (service, loop))
    goal = Goal("ratio", ">=", AT_LEAST)
    return [measured(f"{JOBS} jobs, {AT_ONCE} at a time", ours, bare, unit="jobs/min", target=goal)]


def _ci() -> str:
    jobs = (JOB.format(number=number, tag=POOL, script=SCRIPT) for number in range(JOBS))
    return "stages: [test]\n" + "".join(jobs)


async def _service(it: Scene, project: Project) -> None:
    pipeline = await it.gitlab.run_pipeline(project)
    for job in it.gitlab.jobs(pipeline):
        await it.gitlab.wait_for_job(job, "success", timeout_s=JOBS * GIVE_UP_S)
    for job in it.gitlab.jobs(pipeline):
        await it.over(job)


async def _loop(bench: Bench) -> None:
    """`JOBS` guests, `AT_ONCE` at a time, each until it has rebooted. Raises RuntimeError if one failed."""
    program = f"#!/bin/bash\nset -eo pipefail\n{SCRIPT}\n".encode()
    left = iter(range(JOBS))

    async def one_after_another() -> None:
        for _ in left:
            with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as directory:
                async with bare_guest(bench, Path(directory), program) as guest:
                    await guest.until_ended()

    async with asyncio.TaskGroup() as loops:
        for _ in range(AT_ONCE):
            loops.create_task(one_after_another())
