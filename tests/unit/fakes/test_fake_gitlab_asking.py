"""How the fake GitLab hands out jobs: matching, marks, managers, races, holds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_gitlab_wire import ONE_JOB, Wire

from firerunner.fakes.gitlab import FakeGitLab, HeldClock

pytestmark = pytest.mark.anyio

MARK = "X-GitLab-Last-Update"


async def pending(gitlab: FakeGitLab, ci: str = ONE_JOB, path: str = "group/sample") -> Any:
    project = await gitlab.add_project(path, {".gitlab-ci.yml": ci})
    return await gitlab.run_pipeline(project)


async def test_an_unknown_token_is_forbidden(wire: Wire) -> None:
    answer = await wire.ask("glrt-nobody")
    assert (answer.status_code, answer.json()) == (403, {"message": "403 Forbidden"})


async def test_a_missing_token_is_a_bad_request(wire: Wire) -> None:
    answer = await wire.client.post("/jobs/request", json={"info": {}})
    assert (answer.status_code, answer.json()) == (400, {"error": "token is missing"})


@pytest.mark.parametrize("raw", [b"<html>", b"[1]", b'"x"', b"\xff\xfe"])
async def test_a_body_that_is_no_object_is_a_bad_request(wire: Wire, raw: bytes) -> None:
    answer = await wire.client.post(
        "/jobs/request", content=raw, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "info", [[], "x", 7, None, {"features": []}, {"features": {"x": None}, "version": 3}]
)
async def test_strange_info_does_no_harm(gitlab: FakeGitLab, wire: Wire, info: Any) -> None:
    assert (await wire.ask(gitlab.add_runner(), info=info)).status_code == 204


async def test_an_empty_queue_is_204_and_the_mark_changes_with_a_job(gitlab: FakeGitLab, wire: Wire) -> None:
    token = gitlab.add_runner()
    before = (await wire.ask(token)).headers[MARK]
    again = (await wire.ask(token, last_update=before)).headers[MARK]

    await pending(gitlab)
    taken = await wire.ask(token, last_update=before)
    after = (await wire.ask(token)).headers[MARK]

    assert before == again != after
    assert taken.status_code == 201
    assert MARK not in taken.headers


async def test_an_unchanged_mark_is_answered_without_a_look_at_the_queue(
    gitlab: FakeGitLab, wire: Wire
) -> None:
    token = gitlab.add_runner()
    await pending(gitlab)
    current = gitlab.runner(token).queue_value

    answer = await wire.ask(token, last_update=current)

    assert (answer.status_code, answer.headers[MARK]) == (204, current)


async def test_a_job_runs_from_the_201_on(gitlab: FakeGitLab, wire: Wire, clock: HeldClock) -> None:
    await pending(gitlab)
    clock.advance(7)
    answer = await wire.ask(gitlab.add_runner())

    job = gitlab.job("only")
    assert answer.headers["content-type"] == "application/json"
    assert (job.status, job.pending_to_running_s, job.handed_out) == ("running", 7.0, 1)


@pytest.mark.parametrize(
    ("job_tags", "runner", "taken"),
    [
        ("[]", {"tags": ["vm"], "run_untagged": True}, True),
        ("[]", {"tags": ["vm"], "run_untagged": False}, False),
        ("[vm]", {"tags": ["vm", "big"], "run_untagged": False}, True),
        ("[vm, big]", {"tags": ["vm"]}, False),
        ("[vm]", {"tags": []}, False),
        ("[]", {"paused": True}, False),
        ("[]", {"protected_only": True}, True),
    ],
)
async def test_matching(
    gitlab: FakeGitLab, wire: Wire, job_tags: str, runner: dict[str, Any], taken: bool
) -> None:
    await pending(gitlab, f"only:\n  tags: {job_tags}\n  script: [echo hi]\n")
    answer = await wire.ask(gitlab.add_runner(**runner))
    assert (answer.status_code == 201) is taken


async def test_a_protected_runner_takes_no_job_of_another_branch(gitlab: FakeGitLab, wire: Wire) -> None:
    project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": ONE_JOB})
    await gitlab.commit(project, {".gitlab-ci.yml": ONE_JOB}, branch="topic")
    await gitlab.run_pipeline(project, "topic")
    assert (await wire.ask(gitlab.add_runner(protected_only=True))).status_code == 204
    assert (await wire.ask(gitlab.add_runner())).status_code == 201


async def test_a_project_runner_takes_no_job_of_another_project(gitlab: FakeGitLab, wire: Wire) -> None:
    await pending(gitlab)
    other = await gitlab.add_project("group/other", {"README": "x"})
    assert (await wire.ask(gitlab.add_runner(project=other))).status_code == 204


async def test_every_new_system_id_leaves_a_manager_also_after_a_204(gitlab: FakeGitLab, wire: Wire) -> None:
    token = gitlab.add_runner()
    for system_id in ("fr-a", "fr-b", "fr-a"):
        await wire.ask(token, system_id)

    shown = await wire.get(f"/runners/{gitlab.runner(token).id}/managers")

    assert [manager["system_id"] for manager in shown.json()] == ["fr-b", "fr-a"]
    assert {manager["version"] for manager in shown.json()} == {"19.4.0"}
    assert gitlab.world.managers_made == 2


async def test_a_manager_can_be_deleted_by_token(gitlab: FakeGitLab, wire: Wire) -> None:
    token = gitlab.add_runner()
    await wire.ask(token, "fr-a")

    async def delete(**body: str) -> int:
        return (await wire.client.request("DELETE", "/runners/managers", json=body)).status_code

    assert await delete(token="glrt-nobody", system_id="fr-a") == 403
    assert await delete(token=token) == 400
    assert await delete(token=token, system_id="fr-a") == 204
    assert await delete(token=token, system_id="fr-a") == 404
    assert gitlab.managers(token) == []


async def test_a_deleted_runner_is_forbidden_and_its_job_goes_on(gitlab: FakeGitLab, wire: Wire) -> None:
    await pending(gitlab)
    token = gitlab.add_runner()
    job = (await wire.ask(token)).json()

    deleted = await wire.client.request("DELETE", "/runners", json={"token": token})

    assert deleted.status_code == 204
    assert (await wire.ask(token)).status_code == 403
    assert (await wire.put(job, "success")).status_code == 200


async def test_verify_and_reset(gitlab: FakeGitLab, wire: Wire) -> None:
    token = gitlab.add_runner()
    verified = await wire.client.post("/runners/verify", json={"token": token, "system_id": "s_1"})
    reset = await wire.client.post("/runners/reset_authentication_token", json={"token": token})
    assert (verified.status_code, verified.json()["token"], len(gitlab.managers())) == (200, token, 2)
    assert reset.status_code == 201
    assert (await wire.ask(token)).status_code == 403
    assert (await wire.ask(reset.json()["token"])).status_code == 204


async def test_many_who_ask_at_once_get_each_job_once(gitlab: FakeGitLab, wire: Wire) -> None:
    await pending(gitlab, "only:\n  parallel: 5\n  script: [echo hi]\n")
    token = gitlab.add_runner()

    answers = await asyncio.gather(*(wire.ask(token, f"fr-{number}") for number in range(12)))

    taken = [answer.json()["id"] for answer in answers if answer.status_code == 201]
    assert len(taken) == len(set(taken)) == 5
    assert {job.handed_out for job in gitlab.jobs()} == {1}


async def test_only_an_ask_with_the_current_mark_is_held_and_a_job_wakes_it(
    gitlab: FakeGitLab, wire: Wire
) -> None:
    gitlab.behaviour.long_poll_s = 60
    token = gitlab.add_runner()
    mark = (await wire.ask(token)).headers[MARK]

    held = asyncio.ensure_future(wire.ask(token, last_update=mark))
    await gitlab.wait_for(lambda: len(gitlab.calls("POST", ".*/jobs/request")) == 2)
    held_before = not held.done()
    await pending(gitlab)

    assert held_before
    assert (await held).status_code == 201


async def test_a_held_ask_whose_client_has_gone_takes_no_job(gitlab: FakeGitLab, wire: Wire) -> None:
    gitlab.behaviour.long_poll_s = 60
    token = gitlab.add_runner()
    mark = (await wire.ask(token)).headers[MARK]
    held = asyncio.ensure_future(wire.ask(token, last_update=mark))
    await gitlab.wait_for(lambda: len(gitlab.calls("POST", ".*/jobs/request")) == 2)

    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    await gitlab.wait_for(lambda: gitlab.calls("POST", ".*/jobs/request")[-1].status)
    await pending(gitlab)

    assert gitlab.job("only").status == "pending"


async def test_the_hold_ends_with_204(gitlab: FakeGitLab, wire: Wire) -> None:
    gitlab.behaviour.long_poll_s = 0.05
    token = gitlab.add_runner()
    mark = (await wire.ask(token)).headers[MARK]
    answer = await wire.ask(token, last_update=mark)
    assert (answer.status_code, answer.headers[MARK]) == (204, mark)


@pytest.mark.parametrize(
    "ci",
    [
        "only:\n  allow_failure: {exit_codes: 3}\n  script: [exit 3]\n",
        "only:\n  artifacts: {reports: {junit: x.xml}}\n  script: [make]\n",
        "only:\n  artifacts: {paths: [out], exclude: [out/x]}\n  script: [make]\n",
    ],
)
async def test_a_feature_that_the_runner_lacks_fails_the_job(gitlab: FakeGitLab, wire: Wire, ci: str) -> None:
    await pending(gitlab, ci)
    answer = await wire.ask(gitlab.add_runner(), info={"features": {"artifacts": True}})
    assert answer.status_code == 204
    assert gitlab.job("only").failure_reason == "runner_unsupported"


async def test_projects_take_turns_on_an_instance_runner(gitlab: FakeGitLab, wire: Wire) -> None:
    many = "many:\n  parallel: 2\n  script: [x]\n"
    await pending(gitlab, many, "group/first")
    await pending(gitlab, many, "group/second")
    token = gitlab.add_runner()
    taken = [(await wire.ask(token)).json()["job_info"]["project_full_path"] for _ in range(4)]
    assert taken == ["group/first", "group/second", "group/first", "group/second"]


async def test_router_discovery_is_not_offered(gitlab: FakeGitLab, wire: Wire) -> None:
    headers = {"RUNNER-TOKEN": gitlab.add_runner()}
    assert (await wire.client.get("/runners/router/discovery", headers=headers)).status_code == 501


async def test_every_ask_is_noted_with_what_it_declared(gitlab: FakeGitLab, wire: Wire) -> None:
    await pending(gitlab)
    await wire.ask(gitlab.add_runner(), "fr-a")
    (ask,) = gitlab.world.asks
    assert (ask.system_id, ask.job_id) == ("fr-a", gitlab.job("only").id)
    assert ask.info["features"]["cancel_gracefully"]
