"""What is said to GitLab in a user's name, against the fake GitLab."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firerunner.errors import BadAnswer, CallRefused, TokenRefused, Unreachable
from firerunner.fakes.gitlab import FakeGitLab, Project, bad_gateway, too_many_requests
from firerunner.gitlab import NewRunner, RestClient, Scope

pytestmark = pytest.mark.anyio

CI = """
sized:
  script: [x]
  tags: [firecracker-2cpu-2gb]
  parallel: 101
"""


@pytest.fixture
async def gitlab(tmp_path: Path) -> AsyncIterator[FakeGitLab]:
    async with FakeGitLab(tmp_path) as fake:
        yield fake


@pytest.fixture
async def project(gitlab: FakeGitLab) -> Project:
    return await gitlab.add_project("demo/app", {".gitlab-ci.yml": CI})


@pytest.fixture
async def rest(gitlab: FakeGitLab) -> AsyncIterator[RestClient]:
    client = RestClient(gitlab.url, gitlab.api_token)
    yield client
    await client.aclose()


def a_runner(scope: Scope) -> NewRunner:
    return NewRunner(
        scope, "firerunner small", ("b", "a"), run_untagged=False, locked=True, maximum_timeout_s=900
    )


async def test_a_runner_is_made_found_changed_and_deleted(
    gitlab: FakeGitLab, project: Project, rest: RestClient
) -> None:
    scope = await rest.scope("project", "demo/app")
    runner_id, token = await rest.create_runner(a_runner(scope))

    made = await rest.runner(runner_id)
    assert made is not None
    assert (made.tags, made.run_untagged, made.locked, made.maximum_timeout_s) == (
        ("a", "b"),
        False,
        True,
        900,
    )
    assert [found.id for found in await rest.runners(scope, tag="a")] == [runner_id]
    assert await rest.runners(scope, tag="c") == []
    assert (await rest.update_runner(runner_id, {"tag_list": ["c"]})).tags == ("c",)
    assert await rest.runner_of(token) == runner_id
    assert gitlab.managers() == []  # asking whether it works leaves no record
    new_token = await rest.reset_runner_token(runner_id)
    assert await rest.runner_of(token) is None
    assert await rest.runner_of(new_token) == runner_id
    assert await rest.delete_runner(runner_id)
    assert not await rest.delete_runner(runner_id)
    assert await rest.runner(runner_id) is None


async def test_a_record_that_a_broken_off_question_has_left_goes_with_the_next(
    gitlab: FakeGitLab, rest: RestClient
) -> None:
    tokens = [gitlab.add_runner([name]) for name in ("a", "b")]
    gitlab.misbehave("/api/v4/runners/managers", status=400, times=2)

    for token in tokens:
        with pytest.raises(CallRefused):
            await rest.runner_of(token)
    left = len(gitlab.managers())
    for token in tokens:
        await rest.runner_of(token)

    assert (left, gitlab.managers()) == (2, [])


async def test_a_list_is_read_beyond_its_first_page(
    gitlab: FakeGitLab, project: Project, rest: RestClient
) -> None:
    await gitlab.run_pipeline(project)

    jobs = await rest.pending_jobs(project.id)

    assert len(jobs) == 101
    assert {job.tags for job in jobs} == {("firecracker-2cpu-2gb",)}
    assert not any(job.taken for job in jobs)
    assert len(gitlab.calls("GET", ".*/jobs")) == 2


async def test_each_no_is_told_apart(gitlab: FakeGitLab, project: Project, rest: RestClient) -> None:
    stranger = RestClient(gitlab.url, "glpat-stranger")
    with pytest.raises(TokenRefused):
        await stranger.version()
    with pytest.raises(CallRefused) as refused:
        await rest.scope("project", "demo/other")
    assert refused.value.status == 404
    gitlab.misbehave(bad_gateway("/api/v4/version"))
    with pytest.raises(Unreachable):
        await rest.version()
    gitlab.behave()
    gitlab.misbehave(
        "/api/v4/version", status=200, body="<html>Log in</html>", headers={"content-type": "text/html"}
    )
    with pytest.raises(BadAnswer):
        await rest.version()
    nobody = RestClient("http://127.0.0.1:9", "glpat-x")
    with pytest.raises(Unreachable):
        await nobody.pending_jobs(1)
    for client in (stranger, nobody):
        await client.aclose()


async def test_a_wish_to_be_left_alone_is_handed_on(gitlab: FakeGitLab, rest: RestClient) -> None:
    gitlab.misbehave(too_many_requests("/api/v4/version", 77))

    with pytest.raises(Unreachable) as wish:
        await rest.version()

    assert wish.value.retry_after_s == 77
    assert len(gitlab.calls("GET", "/api/v4/version")) == 1


async def test_a_read_is_repeated_and_a_creation_is_not(
    gitlab: FakeGitLab, project: Project, rest: RestClient
) -> None:
    gitlab.misbehave(bad_gateway("/api/v4/version", times=1))
    assert await rest.version() == gitlab.behaviour.version
    gitlab.misbehave("/api/v4/user/runners", lose_answer=True)

    with pytest.raises(Unreachable):
        await rest.create_runner(a_runner(Scope("project", project.id)))

    assert len(gitlab.calls("POST", "/api/v4/user/runners")) == 1
