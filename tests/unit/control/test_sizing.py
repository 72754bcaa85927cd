"""Runners of sized tags: made once, kept over restarts, removed when unused, never left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firerunner.control import sizing
from firerunner.errors import LedgerError
from firerunner.fakes.gitlab import FakeGitLab, too_many_requests
from firerunner.ledger import NewJob
from firerunner.machines.spec import Resources

from .sizing_given import Bench, ci, new_bench, template

pytestmark = pytest.mark.anyio

DAY_S = 86_400.0
ROUND_S = 0.02
ROUNDS_S = 10 * ROUND_S


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(sizing, "TICK_S", ROUND_S)
    async with FakeGitLab(tmp_path / "gitlab") as gitlab:
        made = await new_bench(tmp_path, gitlab)
        await made.start()
        yield made
        await made.aclose()


async def test_a_pending_job_gets_its_runner_and_its_pool(bench: Bench) -> None:
    await bench.pending("firecracker-2cpu-2gb")

    bench.hook()
    row = await bench.made()

    (runner,), (pool,) = bench.runners(), bench.pools
    assert (runner.tags, runner.run_untagged, runner.locked) == ({"firecracker-2cpu-2gb"}, False, True)
    assert (runner.runner_type, runner.project_id) == ("project_type", bench.project.id)
    assert runner.maximum_timeout_s == 3600
    assert runner.token == row.token == pool.token
    assert pool.name == f"sized-2cpu-2gb-p{bench.project.id}"
    assert (pool.resources, pool.sized) == (Resources(2, 2048, 1024), None)
    assert pool.projects == (bench.project.id,)
    assert bench.gitlab.managers() == []


async def test_twenty_hooks_at_once_make_one_runner(bench: Bench) -> None:
    await bench.pending("firecracker-2cpu-2gb")

    for _ in range(20):
        bench.hook()
    await bench.made()
    bench.hook()
    await bench.looked()

    assert len(bench.runners()) == 1
    assert len(bench.gitlab.calls("POST", "/api/v4/user/runners")) == 1
    assert len(bench.gitlab.calls("GET", ".*/jobs")) == 2


async def test_each_tag_has_its_own_runner(bench: Bench) -> None:
    await bench.pending("firecracker-2cpu-2gb")
    await bench.pending("microvm-2cpu-2gb")
    await bench.pending("firecracker-2cpu-2gb")

    bench.hook()
    await bench.until(lambda: len(bench.pools) == 2)

    assert {tag for runner in bench.runners() for tag in runner.tags} == {
        "firecracker-2cpu-2gb", "microvm-2cpu-2gb",
    }  # fmt: skip
    assert len({pool.name for pool in bench.pools}) == 2


async def test_listed_projects_need_no_hook(bench: Bench) -> None:
    await bench.pending("firecracker-2cpu-2gb")

    bench.templates = [template(projects=[bench.project.id])]

    await bench.made()


async def test_listed_projects_are_looked_at_as_often_as_the_template_says(bench: Bench) -> None:
    bench.templates = [template(projects=[bench.project.id], look_every=300)]
    await bench.looked()
    await bench.pending("firecracker-2cpu-2gb")
    bench.clock.ahead_s += 290
    await asyncio.sleep(ROUNDS_S)
    early = bench.runners()

    bench.clock.ahead_s += 20

    await bench.made()
    assert early == []


@pytest.mark.parametrize("kind", ["group", "instance"])
async def test_the_runner_is_made_where_the_template_says(bench: Bench, kind: str) -> None:
    group = bench.gitlab.world.group("demo")
    assert group is not None
    other = await bench.gitlab.add_project("demo/other", {".gitlab-ci.yml": ci("firecracker-2cpu-2gb")})
    bench.templates = [template(runner_type=kind, **({"group_id": group.id} if kind == "group" else {}))]
    await bench.pending("firecracker-2cpu-2gb")

    bench.hook()
    row = await bench.made()

    (runner,) = bench.runners()
    assert runner.runner_type == f"{kind}_type"
    assert runner.group is (group if kind == "group" else None)
    assert (row.project_id, bench.pools[0].projects) == (None, ())
    await bench.gitlab.run_pipeline(other)  # the same runner is for its jobs too
    bench.hook(other)
    await bench.looked()
    assert len(bench.runners()) == 1


@pytest.mark.parametrize(
    ("tags", "word"),
    [
        (("firecracker-64cpu-2gb",), "too large"),
        (("firecracker-2cpu",), "malformed"),
        (("firecracker-2cpu-2gb", "linux"), "other tags"),
    ],
)
async def test_what_is_not_served_is_said_once_and_taken_back(
    bench: Bench, tags: tuple[str, ...], word: str
) -> None:
    job = await bench.pending(*tags)
    bench.hook()
    await bench.until(bench.sizing.reasons)
    bench.hook()
    await bench.looked()

    ((subject, why),) = bench.sizing.reasons().items()
    assert subject == f"{tags[0]} of project {bench.project.id}"
    assert word in why
    assert f"job {job.id} (two)" in why
    assert bench.runners() == []
    assert [line["event"] for line in bench.log].count("a sized tag is not served") == 1
    noted = [entry for entry in await bench.ledger.journal() if entry.event == "not_served"]
    assert [(entry.subject, word in entry.detail["reason"]) for entry in noted] == [(tags[0], True)]

    bench.gitlab.cancel(job)
    bench.clock.ahead_s += 61  # nobody sends a hook that means work
    await bench.until(lambda: not bench.sizing.reasons())


async def test_jobs_without_a_sized_tag_are_left_to_others(bench: Bench) -> None:
    await bench.pending("linux")

    bench.hook()
    await bench.looked()
    await asyncio.sleep(ROUNDS_S)

    assert (bench.runners(), bench.sizing.reasons()) == ([], {})


async def test_no_more_sizes_than_the_template_says(bench: Bench) -> None:
    bench.templates = [template(max_sizes=1)]
    await bench.pending("firecracker-1cpu-1gb")
    await bench.pending("firecracker-2cpu-2gb")

    bench.hook()
    await bench.until(bench.sizing.reasons)

    assert len(bench.runners()) == 1
    assert "max_sizes" in next(iter(bench.sizing.reasons().values()))


async def test_a_runner_that_cannot_be_made_is_said_and_tried_again(bench: Bench) -> None:
    bench.gitlab.behaviour.runner_limit = 0
    await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    await bench.until(bench.sizing.reasons)
    assert "Maximum number" in next(iter(bench.sizing.reasons().values()))
    await bench.until(lambda: _no_intent(bench))

    bench.gitlab.behaviour.runner_limit = None
    bench.clock.ahead_s += 31

    await bench.made()
    await bench.until(lambda: not bench.sizing.reasons())


async def test_a_gitlab_that_wants_to_be_left_alone_is(bench: Bench) -> None:
    bench.gitlab.misbehave(too_many_requests(".*/jobs", 300, times=1))
    await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    await bench.until(bench.sizing.reasons)
    assert "429" in bench.sizing.reasons()["sized tags on gitlab"]

    bench.clock.ahead_s += 301

    await bench.made()


async def test_a_restart_keeps_runner_and_pool(bench: Bench) -> None:
    await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    row = await bench.made()
    await bench.stop()
    bench.pools = []

    await bench.start()

    assert [pool.token for pool in bench.pools] == [row.token]
    bench.hook()
    await bench.looked()
    assert len(bench.runners()) == 1


async def test_an_unused_runner_is_removed(bench: Bench) -> None:
    job = await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    await bench.made()
    bench.gitlab.cancel(job)

    bench.clock.ahead_s += 7 * DAY_S + 100
    await bench.until(lambda: bench.pools == [])
    bench.clock.ahead_s += 6
    await bench.until(lambda: bench.runners() == [])

    await bench.until(lambda: _none(bench))
    await bench.until(lambda: _no_intent(bench))


async def test_a_runner_in_use_stays_also_if_its_jobs_were_never_seen_pending(bench: Bench) -> None:
    job = await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    row = await bench.made()
    bench.gitlab.cancel(job)
    bench.clock.ahead_s += 6 * DAY_S
    await bench.ledger.reserve("fr-aaaaaaaaaaaa", row.pool, "local", Resources(1, 1, 1), "sha256:1")
    await bench.ledger.begin_ask("fr-aaaaaaaaaaaa")
    await bench.ledger.keep_answer("fr-aaaaaaaaaaaa", b"{}")
    await bench.ledger.take("fr-aaaaaaaaaaaa", NewJob(1, "token", "two", 1, "demo/app", 60))

    bench.clock.ahead_s += 2 * DAY_S
    await bench.until(lambda: _used_later(bench, row.used_at))

    assert len(bench.pools) == 1


async def test_a_runner_deleted_by_hand_is_made_anew_for_the_next_job(bench: Bench) -> None:
    await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    row = await bench.made()
    bench.gitlab.delete_runner(row.token)

    bench.clock.ahead_s += 61
    bench.hook()
    await bench.until(lambda: bench.pools == [])
    bench.clock.ahead_s += 6
    await bench.until(lambda: bench.pools)

    (runner,), (new,) = bench.runners(), await bench.rows()
    assert (runner.token, runner.id) == (new.token, new.runner_id)
    assert new.token != row.token


async def test_a_runner_deleted_by_hand_is_forgotten_without_a_job(bench: Bench) -> None:
    job = await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    row = await bench.made()
    bench.gitlab.cancel(job)
    bench.gitlab.delete_runner(row.token)

    bench.clock.ahead_s += 601
    await bench.until(lambda: bench.pools == [])
    bench.clock.ahead_s += 6
    await bench.until(lambda: _none(bench))


async def test_a_runner_goes_only_when_its_last_machine_is_gone(bench: Bench) -> None:
    await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    row = await bench.made()
    await bench.ledger.reserve("fr-aaaaaaaaaaaa", row.pool, "local", Resources(1, 1, 1), "sha256:1")

    bench.templates = []
    await bench.until(lambda: bench.pools == [])
    bench.clock.ahead_s += 60
    await asyncio.sleep(ROUNDS_S)
    assert len(bench.runners()) == 1

    await bench.ledger.forget_reservation("fr-aaaaaaaaaaaa")
    await asyncio.sleep(ROUNDS_S)
    bench.clock.ahead_s += 6
    await bench.until(lambda: bench.runners() == [])


async def test_a_removal_that_a_crash_cut_off_goes_on(bench: Bench) -> None:
    job = await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    row = await bench.made()
    bench.gitlab.cancel(job)
    bench.gitlab.misbehave("/api/v4/runners", method="DELETE", status=502)
    await bench.ledger.begin_remove_sized_runner(row.pool, reason="unused")
    await bench.until(lambda: bench.pools == [])
    await bench.stop()
    bench.gitlab.behave()
    bench.declared.clear()

    await bench.start()
    await bench.until(lambda: len(bench.declared) == 2)
    bench.clock.ahead_s += 6
    await bench.until(lambda: bench.runners() == [])

    assert bench.declared == [[row.pool], []]  # known at first, so that its machines end by its settings
    await bench.until(lambda: _none(bench))


async def test_a_token_changed_by_hand_ends_the_runner(bench: Bench) -> None:
    job = await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    await bench.made()
    bench.gitlab.cancel(job)
    bench.runners()[0].token = "glrt-changed-by-hand"

    bench.clock.ahead_s += 601
    await bench.until(lambda: bench.pools == [])
    bench.clock.ahead_s += 6

    await bench.until(lambda: bench.runners() == [])


async def test_lowered_limits_withdraw_a_size(bench: Bench) -> None:
    await bench.pending("firecracker-4cpu-8gb")
    bench.hook()
    await bench.made()

    bench.templates = [template(max_vcpu=2)]

    await bench.until(lambda: bench.pools == [])


async def test_a_crash_between_creation_and_commit_leaves_no_runner(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(**row: object) -> None:
        await bench.until(lambda: False)

    foreign = bench.gitlab.add_runner(["firecracker-2cpu-2gb"], project=bench.project, description="theirs")
    with monkeypatch.context() as patched:
        patched.setattr(bench.ledger, "add_sized_runner", crash)
        await bench.pending("firecracker-2cpu-2gb")
        bench.hook()
        await bench.until(lambda: len(bench.runners()) == 2)
        await bench.stop()
    assert len(await bench.ledger.unfinished()) == 1

    await bench.start()
    await bench.until(lambda: len(bench.runners()) == 1)

    assert bench.runners()[0].token == foreign
    bench.hook()
    await bench.made()
    assert len(bench.runners()) == 2
    await bench.until(lambda: _no_intent(bench))


async def test_a_database_that_fails_in_between_leaves_no_runner(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(**row: object) -> None:
        raise LedgerError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(bench.ledger, "add_sized_runner", full)
        await bench.pending("firecracker-2cpu-2gb")
        bench.hook()
        await bench.until(lambda: any("broke off" in line["event"] for line in bench.log))
    bench.clock.ahead_s += 31
    bench.hook()
    await bench.made()

    await bench.until(lambda: _no_intent(bench))
    assert len(bench.runners()) == 1


async def test_a_creation_whose_answer_is_lost_leaves_one_runner_in_the_end(bench: Bench) -> None:
    bench.gitlab.misbehave("/api/v4/user/runners", lose_answer=True, times=1)
    await bench.pending("firecracker-2cpu-2gb")
    bench.hook()
    await bench.until(bench.sizing.reasons)

    bench.clock.ahead_s += 31

    await bench.made()
    assert len(bench.runners()) == 1
    await bench.until(lambda: _no_intent(bench))


async def test_hooks_of_others_are_not_looked_at(bench: Bench) -> None:
    bench.templates = [template().model_copy(update={"projects": (999,)})]
    await bench.pending("firecracker-2cpu-2gb")

    bench.hook()
    await asyncio.sleep(ROUNDS_S)

    assert bench.gitlab.calls("GET", ".*/jobs") == []


async def _used_later(bench: Bench, than: float) -> bool:
    return (await bench.rows())[0].used_at > than


async def _none(bench: Bench) -> bool:
    return await bench.rows() == []


async def _no_intent(bench: Bench) -> bool:
    return await bench.ledger.unfinished() == []
