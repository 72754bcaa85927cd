"""pickup: seconds from `pending` in GitLab to the first output: cold, restored, warm, and started by hand.

All run the same job with the same image from the same fake GitLab, in turn, and the next one begins when the
machines of the last are gone. The floor is the same runner in a bare guest of the same shape that is up,
started by hand as soon as the job is pending; it asks GitLab directly. A warm pool's new machine boots while
the job begins, as in real life. FireRunner's own part is what `bench.own_part` says. Where
FIRERUNNER_GITLAB_RUNNER names the official runner, it is also run alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench import plot
from bench.bare import Bench, bare_guest, new_bench
from bench.official import official_runner, run_alone
from bench.own_part import Asked, Pickup, own_part
from bench.rows import Goal, Row, measured
from bench.scene import GIVE_UP_S, Scene, demo_image, scene
from bench.steps import floor_steps, steps
from firerunner.cli.output import errors
from firerunner.errors import FireRunnerError
from firerunner.fakes.gitlab.model import Job, Project
from firerunner.ledger import JobRecord
from firerunner.settings import PoolSettings

ROUNDS = 5
WARM_AT_MOST, RESTORED_AT_MOST, OWN_MS_AT_MOST = 1.2, 0.2, 50.0
FLOOR, COLD, RESTORED, WARM, ALONE = "by hand", "cold", "restored", "warm", "official runner alone, no VM"
PICTURE = Path(__file__).parent / "out" / "pickup-steps.svg"

CI = """
hello:
  tags: [{tag}]
  variables: {{GIT_STRATEGY: none}}
  script: [echo hello]
"""


class StartedCold(FireRunnerError):
    """A figure of a restored machine would be one of another that has booted."""


@dataclass(slots=True)
class Found:
    """What was measured of one way, round by round. Seconds."""

    output: list[float] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)
    own: list[dict[str, float]] = field(default_factory=list)


async def measure(rounds: int = ROUNDS) -> list[Row]:
    """Every way in turn, in the opposite order each second round; one round before them to warm up."""
    image = await demo_image()
    ways = _ways()
    official = official_runner()
    found = {way: Found() for way in (FLOOR, *ways, *([ALONE] if official else []))}
    async with scene(image, ways) as it:
        projects = {way: await it.add_project(way, CI.format(tag=way)) for way in ways}
        others = await it.add_project("floor", CI.format(tag="floor"), hook=False)
        bench = await new_bench(image, it.gitlab)
        for turn in range(rounds + 1):
            errors.print(f"pickup: round {turn} of {rounds}{' (warming up)' if turn == 0 else ''}")
            for way in list(found)[:: 1 if turn % 2 else -1]:
                if way == FLOOR:
                    once = await _floor(it, others, bench)
                elif way == ALONE and official:
                    once = await _alone(it, others, bench, official)
                elif way == RESTORED and not turn:
                    once = await _first_restored(it, projects[way])
                else:
                    once = await _pickup(it, way, projects[way])
                if turn:
                    _add(found[way], once)
    plot.steps(
        PICTURE, "pending to first output, by state [s]", {way: _medians(found[way].steps) for way in found}
    )
    return rows(found)


def _ways() -> dict[str, dict[str, object]]:
    """A pool for each way, and what it says in the settings."""
    ways: dict[str, dict[str, object]] = {COLD: {}, WARM: {"warm": 1, "limit": 2}}
    if "start" in PoolSettings.model_fields:
        return {COLD: {"start": "cold"}, RESTORED: {"start": "restored"}, WARM: {"warm": 1, "limit": 2}}
    errors.print("pickup: restored is left out: pools have no setting for it in this version")
    return ways


async def _pickup(it: Scene, way: str, project: Project) -> Found:
    if way == WARM:
        await it.waiting(WARM)
    job = it.gitlab.job("hello", await it.gitlab.run_pipeline(project))
    await it.gitlab.wait_for_job(job, "success", timeout_s=120)
    record = await it.over(job)
    started = it.marks.started(record.machine_id or "")
    if way == RESTORED and started != RESTORED:
        raise StartedCold(
            f"machine {record.machine_id} was to be restored, and its start was {started or 'not told'}",
            remedy="See what the service's log says of saved states",
        )
    if way == WARM:
        await it.waiting(WARM)  # its successor has booted, and leaves the processor to the next
    return Found(
        [first_output_at(job) - pending_at(job)],
        [await steps(it.ledger, record, job)],
        [_own(it, job, record)],
    )


async def _first_restored(it: Scene, project: Project) -> Found:
    """Until the image's state has been saved, machines boot; this is what the round to warm up is for."""
    async with asyncio.timeout(GIVE_UP_S):
        while True:
            with contextlib.suppress(StartedCold):
                return await _pickup(it, RESTORED, project)
            await asyncio.sleep(5.0)


def _own(it: Scene, job: Job, record: JobRecord) -> dict[str, float]:
    since = pending_at(job)
    calls = [
        Asked(call.method, call.path, call.at, call.answered_at, call.status)
        for call in it.gitlab.calls()
        if call.answered_at is not None and call.status is not None and call.answered_at >= since
    ]
    taken = next(c for c in calls if c.path.endswith("/jobs/request") and c.status == 201)
    assert record.machine_id is not None
    return own_part(Pickup(job.id, record.machine_id, since, taken), it.marks.done(since), calls)


async def _floor(it: Scene, project: Project, bench: Bench) -> Found:
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as directory:
        async with bare_guest(bench, Path(directory)) as guest:
            await guest.until_up()
            job = it.gitlab.job("hello", await it.gitlab.run_pipeline(project))
            started_at = guest.start_runner()
            await it.gitlab.wait_for_job(job, "success", timeout_s=120)
            await guest.until_ended()
    taken = floor_steps(it.gitlab.calls(), job, started_at)
    return Found([first_output_at(job) - started_at], [taken], [])


async def _alone(it: Scene, project: Project, bench: Bench, official: Path) -> Found:
    job = it.gitlab.job("hello", await it.gitlab.run_pipeline(project))
    started_at = await run_alone(official, it.gitlab, bench.token, job)
    taken = floor_steps(it.gitlab.calls(), job, started_at)
    return Found([first_output_at(job) - started_at], [taken], [])


def rows(found: Mapping[str, Found]) -> list[Row]:
    """The table, out of what was measured."""
    floor = found[FLOOR].output
    table = [measured("pending to first output: cold", found[COLD].output, floor)]
    if RESTORED in found:
        table += [
            measured("pending to first output: restored", found[RESTORED].output, floor),
            measured(
                "restored less floor, beside cold less floor",
                _less(found[RESTORED].output, floor),
                _less(found[COLD].output, floor),
                target=Goal("ratio", "<=", RESTORED_AT_MOST),
            ),
        ]
    table.append(
        measured(
            "pending to first output: warm",
            found[WARM].output,
            floor,
            target=Goal("ratio", "<=", WARM_AT_MOST),
        )
    )
    if ALONE in found:
        table.append(measured(f"start to first output: {ALONE}", found[ALONE].output, floor))
    for way, its in found.items():
        if its.own:
            table.append(
                measured(
                    f"FireRunner's own part: {way}",
                    [1000 * sum(parts.values()) for parts in its.own],
                    unit="ms",
                    target=Goal("value", "<=", OWN_MS_AT_MOST),
                )
            )
            table += _by_name("own", way, its.own, 1000.0, "ms")
    for way, its in found.items():
        table += _by_name("step", way, its.steps, 1.0, "s")
    return table


def _by_name(kind: str, way: str, rounds: list[dict[str, float]], times: float, unit: str) -> list[Row]:
    return [
        measured(f"  {kind}, {way}: {name}", [times * each[name] for each in rounds], unit=unit)
        for name in rounds[0]
        if all(name in each for each in rounds)
    ]


def _less(values: list[float], floor: list[float]) -> list[float]:
    return [value - beside for value, beside in zip(values, floor, strict=True)]


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(each[name] for each in rounds if name in each) for name in rounds[0]}


def _add(to: Found, once: Found) -> None:
    to.output += once.output
    to.steps += once.steps
    to.own += once.own


def pending_at(job: Job) -> float:
    """When it became pending. Raises RuntimeError if it never did."""
    at = job.at("pending")
    if at is None:
        raise RuntimeError(f"job {job.id} was never pending")
    return at


def first_output_at(job: Job) -> float:
    """When its first output came. Raises RuntimeError if none did."""
    if job.first_trace_at is None:
        raise RuntimeError(f"job {job.id} has no output")
    return job.first_trace_at
