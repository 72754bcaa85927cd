"""Set-up makes each pool's runner, finds it again, and leaves no runner without its token on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from firerunner.errors import FireRunnerError, Unreachable
from firerunner.fakes.gitlab import Runner
from firerunner.setup import acting
from firerunner.setup.deciding import Action, RunnerStep
from firerunner.setup.wishes import EVERY_POOL, Options

from .setup_given import Stage, pool

pytestmark = pytest.mark.anyio

CHOSEN = Options(
    tags={"small": ("linux", "small")},
    run_untagged={"small": True},
    access_level={EVERY_POOL: "ref_protected"},
)


def only_runner(stage: Stage) -> Runner:
    (runner,) = stage.gitlab.world.runners.values()
    return runner


async def test_each_pool_gets_a_runner_and_its_token_is_written_for_its_owner_only(stage: Stage) -> None:
    stage.pools = [pool("small", max_job_time="2h"), pool("large", max_job_time="5m")]

    outcome = await stage.set_up()

    assert outcome.error is None
    small, large = (stage.secret(f"{name}.token") for name in ("small", "large"))
    assert small.stat().st_mode & 0o777 == 0o600
    runner = stage.gitlab.runner(small.read_text().strip())
    assert (runner.runner_type, runner.project_id, runner.locked) == ("project_type", stage.project.id, True)
    assert (runner.description, runner.tags, runner.run_untagged) == ("firerunner small", {"small"}, False)
    assert (runner.maximum_timeout_s, runner.protected_only) == (7200, False)
    assert stage.gitlab.runner(large.read_text().strip()).maximum_timeout_s == 600  # GitLab's least
    assert [file.name for file in stage.directory.glob(".*")] == []  # no half-written file


async def test_what_is_said_about_a_runner_is_done(stage: Stage) -> None:
    await stage.set_up(CHOSEN)

    runner = only_runner(stage)
    assert (runner.tags, runner.run_untagged, runner.protected_only) == ({"linux", "small"}, True, True)


async def test_doing_it_again_changes_nothing(stage: Stage) -> None:
    await stage.set_up(CHOSEN)
    token = stage.secret("small.token").read_text()

    for options in (CHOSEN, Options()):
        (step,) = await stage.plan(options)
        assert step.action is Action.UNCHANGED
        outcome = await stage.set_up(options)
        assert (outcome.done, outcome.error) == ([], None)

    assert stage.secret("small.token").read_text() == token
    assert stage.gitlab.managers() == []


async def test_what_has_drifted_is_put_right_and_what_is_not_named_is_left(stage: Stage) -> None:
    await stage.set_up(CHOSEN)
    runner = only_runner(stage)
    runner.tags, runner.run_untagged, runner.maximum_timeout_s = frozenset({"other"}), False, None

    (step,) = await stage.plan(Options(run_untagged={"small": True}))
    await stage.set_up(Options(run_untagged={"small": True}))

    assert step.changes == {"run_untagged": (False, True), "maximum_timeout": (None, 3600)}
    assert (runner.tags, runner.run_untagged, runner.maximum_timeout_s) == ({"other"}, True, 3600)


async def test_a_token_that_works_is_replaced_only_on_request(stage: Stage) -> None:
    await stage.set_up()
    old = stage.secret("small.token").read_text().strip()
    stage.secret("small.token").chmod(0o644)

    await stage.set_up(Options(rotate=frozenset({"small"})))

    token = stage.secret("small.token").read_text().strip()
    assert token != old
    assert only_runner(stage).token == token
    assert (
        stage.secret("small.token").stat().st_mode & 0o777 == 0o640
    )  # a group may keep its right, others not


async def test_the_token_of_a_runner_elsewhere_is_not_overwritten(stage: Stage) -> None:
    token = stage.gitlab.add_runner(["small"])  # an instance's
    stage.secret("small.token").write_text(token)

    (blocked,) = await stage.plan()
    (made,) = await stage.plan(Options(rotate=frozenset({"small"})))

    assert blocked.action is Action.BLOCKED
    assert "--rotate small" in blocked.remarks[0]
    assert made.action is Action.CREATE
    assert "stays in GitLab" in made.remarks[0]


async def test_a_runner_deleted_in_gitlab_is_made_again(stage: Stage) -> None:
    await stage.set_up()
    old = stage.secret("small.token").read_text()
    stage.gitlab.delete_runner(old.strip())

    await stage.set_up()

    assert stage.secret("small.token").read_text().strip() == only_runner(stage).token


async def test_a_lost_token_is_replaced_by_that_of_the_same_runner(stage: Stage) -> None:
    await stage.set_up()
    runner_id = only_runner(stage).id
    stage.secret("small.token").unlink()

    (step,) = await stage.plan()
    await stage.set_up()

    assert (step.action, step.runner_id) == (Action.RENEW, runner_id)  # type: ignore[union-attr]
    assert stage.secret("small.token").read_text().strip() == only_runner(stage).token


async def test_a_runner_of_another_computer_is_left_alone(stage: Stage) -> None:
    stage.gitlab.add_runner(["small"], project=stage.project, description="firerunner small")

    (step,) = await stage.plan()

    assert step.action is Action.CREATE
    assert "not of this computer" in step.remarks[0]


async def test_a_runner_whose_token_cannot_be_written_is_deleted_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise FireRunnerError(f"cannot write {path}: No space left on device", remedy="Make room")

    monkeypatch.setattr(acting, "write_secret", full)
    stage.pools = [pool("small"), pool("large")]

    outcome = await stage.set_up()

    assert stage.gitlab.world.runners == {}
    assert "was deleted again" in str(outcome.error)
    assert outcome.left == ["runner of pool small: create", "runner of pool large: create"]


async def test_a_directory_that_is_not_there_is_found_before_gitlab_is_asked(stage: Stage) -> None:
    stage.pools = [pool(runner_token_file="nowhere/small.token")]

    outcome = await stage.set_up()

    assert "cannot write" in str(outcome.error)
    assert stage.gitlab.calls("POST", ".*/user/runners") == []


async def test_a_creation_whose_answer_is_lost_leaves_nothing(stage: Stage) -> None:
    stage.gitlab.misbehave(".*/user/runners", lose_answer=True)

    outcome = await stage.set_up()

    assert isinstance(outcome.error, Unreachable)
    assert stage.gitlab.world.runners == {}


async def test_an_interruption_waits_until_runner_and_token_are_both_there(stage: Stage) -> None:
    held = stage.gitlab.misbehave(".*/user/runners", hold=True)
    running = asyncio.create_task(stage.set_up())
    async with asyncio.timeout(10):
        while not held.used:
            await asyncio.sleep(0.01)

    running.cancel()
    await asyncio.sleep(0)
    held.release()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert stage.secret("small.token").read_text().strip() == only_runner(stage).token


async def test_the_first_failure_ends_it_and_the_next_run_goes_on(stage: Stage) -> None:
    stage.pools = [pool("small"), pool("large")]
    stage.gitlab.misbehave(
        ".*/user/runners", status=400, body='{"message":"limit (50) exceeded"}', skip=1, times=1
    )

    outcome = await stage.set_up()
    again = await stage.plan()

    assert "limit (50) exceeded" in str(outcome.error)
    assert len(outcome.done) == 1
    assert outcome.left == ["runner of pool large: create"]
    assert [step.action for step in again] == [Action.UNCHANGED, Action.CREATE]


async def test_a_pool_that_could_get_no_job_is_refused(stage: Stage) -> None:
    (step,) = await stage.plan(Options(tags={"small": ()}))

    assert isinstance(step, RunnerStep)
    assert step.action is Action.BLOCKED
    assert "--run-untagged small" in step.remarks[0]
