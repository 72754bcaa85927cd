"""Laws of the fake's scheduler: whatever happens, in whatever order."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from firerunner.fakes.gitlab import Behaviour, HeldClock, scheduler
from firerunner.fakes.gitlab.ci_yaml import CiFile, JobSpec, RetrySpec
from firerunner.fakes.gitlab.model import FINISHED, ON_RUNNER, Job, JobStatus, Pipeline, Project
from firerunner.fakes.gitlab.world import World

STAGES = ("one", "two", "three")
LEGAL = {
    "created": {"pending", "skipped", "canceled"},
    "pending": {"running", "canceled", "failed"},
    "running": {"success", "failed", "canceling", "canceled"},
    "canceling": {"canceled"},
    "skipped": {"created"},
    "success": set(),
    "failed": set(),
    "canceled": set(),
}

specs = st.builds(
    JobSpec,
    name=st.text("abcdef", min_size=1, max_size=3),
    stage=st.sampled_from(STAGES),
    script=st.just(("x",)),
    tags=st.sampled_from([(), ("vm",), ("other",)]),
    allow_failure=st.booleans(),
    allowed_exit_codes=st.sampled_from([frozenset(), frozenset({3})]),
    retry=st.builds(RetrySpec, st.integers(0, 2), st.just(frozenset({"runner_system_failure"}))),
    when=st.sampled_from(["on_success", "on_failure", "always"]),
)
files = st.lists(specs, min_size=1, max_size=6, unique_by=lambda spec: spec.name)
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "ask", "succeed", "fail", "break", "cancel", "force", "retry", "hour"]
        ),
        st.integers(0, 20),
        st.booleans(),
    ),
    max_size=40,
)


def play(world: World, step: tuple[str, int, bool]) -> None:
    """One thing that a runner, a user or time does to some job."""
    verb, pick, flag = step
    jobs = list(world.jobs.values())
    job = jobs[pick % len(jobs)]
    on_runner = job.status in ON_RUNNER
    runner = next(iter(world.runners.values()))
    manager = world.manager_of(runner, f"fr-{pick}", "")
    acts: dict[str, Any] = {
        "ask": lambda: scheduler.hand_out(world, runner, manager, {"cancel_gracefully": flag}),
        "succeed": lambda: on_runner and scheduler.succeed(world, job),
        "fail": lambda: on_runner and scheduler.drop(world, job, "script_failure", 3 if flag else 1),
        "break": lambda: on_runner and scheduler.drop(world, job, "runner_system_failure"),
        "cancel": lambda: scheduler.cancel(world, job),
        "force": lambda: scheduler.cancel(world, job, force=True),
        "retry": lambda: scheduler.retryable(job) and scheduler.retry(world, job),
        "hour": lambda: (world.clock.advance(3700), scheduler.drop_stuck(world)),  # type: ignore[attr-defined]
    }
    acts[verb]()


def started(specs_of_file: list[JobSpec]) -> tuple[World, Pipeline]:
    world = World(Path("/nonexistent"), HeldClock(), Behaviour())
    project = Project(1, "group/sample", Path("/nonexistent"), 0.0)
    world.projects[1] = project
    world.new_runner(tags=frozenset({"vm"}), run_untagged=True)
    ci = CiFile(STAGES, {}, tuple(specs_of_file))
    facts: dict[str, Any] = {"ref": "main", "tag": False, "sha": "a", "before_sha": "b", "message": "m"}
    return world, scheduler.create_pipeline(world, project, ci, pipeline_id=1, variables={}, **facts)


def legal(job: Job) -> bool:
    statuses = [mark.status for mark in job.timeline]
    return all(after in LEGAL[before] for before, after in itertools.pairwise(statuses))


@settings(max_examples=200)
@given(specs_of_file=files, story=steps)
def test_whatever_happens(specs_of_file: list[JobSpec], story: list[tuple[str, int, bool]]) -> None:
    world, pipeline = started(specs_of_file)
    for step in story:
        play(world, step)
    latest = pipeline.latest()
    first_open = min((job.stage_index for job in latest if not job.finished), default=99)
    assert all(job.handed_out <= 1 for job in pipeline.jobs)
    assert all(legal(job) for job in pipeline.jobs)
    assert all(job.finished for job in pipeline.jobs if job.retried)
    assert sorted(job.name for job in latest) == sorted(spec.name for spec in specs_of_file)
    assert (pipeline.status in FINISHED) == all(job.finished for job in latest)
    assert not [job for job in latest if job.status is JobStatus.CREATED and job.stage_index == first_open]


@settings(max_examples=50)
@given(specs_of_file=files, story=steps)
def test_every_pipeline_can_be_brought_to_an_end(
    specs_of_file: list[JobSpec], story: list[tuple[str, int, bool]]
) -> None:
    world, pipeline = started(specs_of_file)
    for step in story:
        play(world, step)
    for job in reversed(pipeline.latest()):
        scheduler.cancel(world, job)
        scheduler.cancel(world, job, force=True)
    assert pipeline.status in FINISHED
