"""Stages, retries, allowed failures, and pending jobs that nobody takes."""

from __future__ import annotations

from typing import Any

import pytest
from fake_gitlab_wire import Wire

from firerunner.fakes.gitlab import FakeGitLab, HeldClock, Pipeline

pytestmark = pytest.mark.anyio

STAGES = """
stages: [one, two, three]
a: {stage: one, script: [x]}
b: {stage: two, script: [x], when: %s}
c: {stage: three, script: [x], when: always}
"""


async def pipeline_of(gitlab: FakeGitLab, ci: str) -> Pipeline:
    project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": ci})
    return await gitlab.run_pipeline(project)


async def end_next(gitlab: FakeGitLab, wire: Wire, state: str, **body: Any) -> int:
    job = (await wire.ask(gitlab.add_runner())).json()
    await wire.put(job, state, **body)
    return int(job["id"])


def statuses(pipeline: Pipeline) -> dict[str, str]:
    return {job.name: job.status.value for job in pipeline.latest()}


async def test_a_stage_waits_for_the_one_before(gitlab: FakeGitLab, wire: Wire) -> None:
    pipeline = await pipeline_of(gitlab, STAGES % "on_success")
    before = statuses(pipeline)
    await end_next(gitlab, wire, "success")
    after = statuses(pipeline)
    assert before == {"a": "pending", "b": "created", "c": "created"}
    assert after == {"a": "success", "b": "pending", "c": "created"}
    assert pipeline.status == "running"


@pytest.mark.parametrize(
    ("when", "b", "c"), [("on_success", "skipped", "pending"), ("on_failure", "pending", "created")]
)
async def test_a_failure_skips_what_waits_for_success(
    gitlab: FakeGitLab, wire: Wire, when: str, b: str, c: str
) -> None:
    pipeline = await pipeline_of(gitlab, STAGES % when)
    await end_next(gitlab, wire, "failed", failure_reason="script_failure")
    assert statuses(pipeline) == {"a": "failed", "b": b, "c": c}


async def test_an_allowed_failure_lets_the_pipeline_succeed(gitlab: FakeGitLab, wire: Wire) -> None:
    pipeline = await pipeline_of(gitlab, "a: {script: [x], allow_failure: true}\n")
    await end_next(gitlab, wire, "failed", failure_reason="script_failure")
    assert (statuses(pipeline), pipeline.status) == ({"a": "failed"}, "success")


@pytest.mark.parametrize(("code", "status"), [(3, "success"), (4, "failed")])
async def test_failures_are_allowed_by_exit_code(
    gitlab: FakeGitLab, wire: Wire, code: int, status: str
) -> None:
    pipeline = await pipeline_of(gitlab, "a: {script: [x], allow_failure: {exit_codes: [3, 5]}}\n")
    await end_next(gitlab, wire, "failed", failure_reason="script_failure", exit_code=code)
    assert pipeline.status == status


async def test_a_retry_is_a_new_job_and_ends_at_its_limit(gitlab: FakeGitLab, wire: Wire) -> None:
    ci = "a: {script: [x], retry: {max: 1, when: [runner_system_failure]}}\n"
    pipeline = await pipeline_of(gitlab, ci)

    first = await end_next(gitlab, wire, "failed", failure_reason="runner_system_failure")
    between = (statuses(pipeline), pipeline.status)
    second = await end_next(gitlab, wire, "failed", failure_reason="runner_system_failure")

    assert first != second
    assert between == ({"a": "pending"}, "pending")
    assert [job.retried for job in pipeline.jobs] == [True, False]
    assert pipeline.status == "failed"


async def test_another_reason_is_not_retried(gitlab: FakeGitLab, wire: Wire) -> None:
    ci = "a: {script: [x], retry: {max: 2, when: [runner_system_failure]}}\n"
    pipeline = await pipeline_of(gitlab, ci)
    await end_next(gitlab, wire, "failed", failure_reason="script_failure")
    assert len(pipeline.jobs) == 1


async def test_a_stage_does_not_go_on_while_a_retry_is_due(gitlab: FakeGitLab, wire: Wire) -> None:
    pipeline = await pipeline_of(
        gitlab, "stages: [one, two]\na: {stage: one, script: [x], retry: 1}\nb: {stage: two, script: [x]}\n"
    )
    await end_next(gitlab, wire, "failed", failure_reason="runner_system_failure")
    between = statuses(pipeline)
    await end_next(gitlab, wire, "success")
    assert between == {"a": "pending", "b": "created"}
    assert statuses(pipeline) == {"a": "success", "b": "pending"}


async def test_a_user_may_retry_and_skipped_jobs_get_their_chance(gitlab: FakeGitLab, wire: Wire) -> None:
    pipeline = await pipeline_of(gitlab, STAGES % "on_success")
    job_id = await end_next(gitlab, wire, "failed", failure_reason="script_failure")

    retried = await wire.post(f"/projects/group%2Fsample/jobs/{job_id}/retry")
    again = await wire.post(f"/projects/group%2Fsample/jobs/{job_id}/retry")

    assert (retried.status_code, retried.json()["status"]) == (201, "pending")
    assert retried.json()["id"] > job_id
    assert again.status_code == 403
    assert statuses(pipeline)["b"] == "created"


async def test_a_pending_job_is_cancelled_at_once_and_handed_to_nobody(
    gitlab: FakeGitLab, wire: Wire
) -> None:
    pipeline = await pipeline_of(gitlab, "a: {script: [x]}\n")
    gitlab.cancel(gitlab.job("a"))
    assert (await wire.ask(gitlab.add_runner())).status_code == 204
    assert pipeline.status == "canceled"


@pytest.mark.parametrize(("runners", "hours", "dropped"), [(0, 1, 1), (1, 1, 0), (1, 24, 1)])
async def test_pending_jobs_are_stuck_after_an_hour_or_a_day(
    gitlab: FakeGitLab, clock: HeldClock, runners: int, hours: int, dropped: int
) -> None:
    await pipeline_of(gitlab, "a: {script: [x], tags: [vm]}\n")
    for _ in range(runners):
        gitlab.add_runner(["vm"])
    clock.advance(hours * 3600 + 1)
    assert len(gitlab.drop_stuck_jobs()) == dropped


async def test_waiting_in_vain_tells_what_the_jobs_did(gitlab: FakeGitLab) -> None:
    await pipeline_of(gitlab, "a: {script: [x]}\n")
    with pytest.raises(TimeoutError, match=r"a#\d+ pending"):
        await gitlab.wait_for_job(gitlab.job("a"), timeout_s=0.01)
