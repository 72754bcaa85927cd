"""The REST API: tokens, lists in pages, jobs with tags, runners."""

from __future__ import annotations

from typing import Any

import pytest
from fake_gitlab_wire import Wire

from firerunner.fakes.gitlab import FakeGitLab, HeldClock, Project

pytestmark = pytest.mark.anyio

CI = "many:\n  tags: [vm, big]\n  parallel: 7\n  script: [x]\n"


@pytest.fixture
async def project(gitlab: FakeGitLab) -> Project:
    return await gitlab.add_project("group/sub/app", {".gitlab-ci.yml": CI})


async def test_tokens_and_scopes(gitlab: FakeGitLab, wire: Wire, project: Project) -> None:
    reader = gitlab.world.new_api_token(frozenset({"read_api"}))
    path = f"/projects/{project.id}/jobs"

    async def code(method: str, path: str, headers: dict[str, str]) -> int:
        return (await wire.client.request(method, path, headers=headers)).status_code

    assert await code("GET", path, {}) == 401
    assert await code("GET", path, {"PRIVATE-TOKEN": "glpat-x"}) == 401
    assert await code("GET", path, {"Authorization": f"Bearer {reader}"}) == 200
    assert await code("POST", f"/projects/{project.id}/pipeline", {"PRIVATE-TOKEN": reader}) == 403


async def test_a_project_is_found_by_id_and_by_encoded_path(wire: Wire, project: Project) -> None:
    by_id = await wire.get(f"/projects/{project.id}")
    by_path = await wire.get("/projects/group%2Fsub%2Fapp")
    unknown = await wire.get("/projects/group%2Fnothing")
    assert by_id.json() == by_path.json()
    assert (unknown.status_code, unknown.json()) == (404, {"message": "404 Project Not Found"})


async def test_a_job_shows_its_tags_its_runner_and_its_manager(
    gitlab: FakeGitLab, wire: Wire, project: Project, clock: HeldClock
) -> None:
    await gitlab.run_pipeline(project)
    clock.advance(3)
    waiting = (await wire.get(f"/projects/{project.id}/jobs/{gitlab.job('many 7/7').id}")).json()
    token = gitlab.add_runner(["vm", "big"], description="pool")
    taken = (await wire.ask(token, "fr-abc")).json()
    running = (await wire.get(f"/projects/{project.id}/jobs/{taken['id']}")).json()
    assert (waiting["tag_list"], waiting["runner"], waiting["queued_duration"]) == (["vm", "big"], None, 3.0)
    assert (running["status"], running["runner"]["description"]) == ("running", "pool")
    assert running["runner_manager"]["system_id"] == "fr-abc"
    assert running["pipeline"]["project_id"] == project.id
    assert "project_id" not in running
    assert "failure_reason" not in running


async def test_keyset_pages_follow_the_link(gitlab: FakeGitLab, wire: Wire, project: Project) -> None:
    await gitlab.run_pipeline(project)
    first = await wire.get(f"/projects/{project.id}/jobs", pagination="keyset", per_page=3, order_by="id")
    second = await wire.client.get(first.links["next"]["url"], headers=wire.as_user)
    third = await wire.client.get(second.links["next"]["url"], headers=wire.as_user)
    ids = [job["id"] for answer in (first, second, third) for job in answer.json()]
    assert ids == sorted(ids, reverse=True)
    assert len(set(ids)) == 7
    assert "Link" not in third.headers
    assert "X-Total" not in first.headers


async def test_offset_pages_count(gitlab: FakeGitLab, wire: Wire, project: Project) -> None:
    await gitlab.run_pipeline(project)
    answer = await wire.get(f"/projects/{project.id}/jobs", per_page=3, page=3)
    assert len(answer.json()) == 1
    shown = {name: answer.headers[name] for name in ("X-Page", "X-Next-Page", "X-Total", "X-Total-Pages")}
    assert shown == {"X-Page": "3", "X-Next-Page": "", "X-Total": "7", "X-Total-Pages": "3"}


async def test_jobs_by_scope(gitlab: FakeGitLab, wire: Wire, project: Project) -> None:
    await gitlab.run_pipeline(project)
    await wire.ask(gitlab.add_runner(["vm", "big"]))
    path = f"/projects/{project.id}/jobs"
    running = await wire.client.get(path, params={"scope[]": "running"}, headers=wire.as_user)
    both = await wire.client.get(path, params={"scope[]": ["running", "pending"]}, headers=wire.as_user)
    assert (len(running.json()), len(both.json())) == (1, 7)


async def test_pipelines_are_created_read_and_cancelled(
    gitlab: FakeGitLab, wire: Wire, project: Project
) -> None:
    path = f"/projects/{project.id}"
    made = await wire.post(f"{path}/pipeline", ref="main", variables=[{"key": "K", "value": "v"}])
    pipeline_id = made.json()["id"]
    jobs = await wire.get(f"{path}/pipelines/{pipeline_id}/jobs")
    listed = await wire.get(f"{path}/pipelines")
    cancelled = await wire.post(f"{path}/pipelines/{pipeline_id}/cancel")
    assert (made.status_code, made.json()["status"], len(jobs.json())) == (201, "pending", 7)
    assert [entry["id"] for entry in listed.json()] == [pipeline_id]
    assert cancelled.json()["status"] == "canceled"


async def test_pipelines_that_cannot_be(gitlab: FakeGitLab, wire: Wire, project: Project) -> None:
    await gitlab.commit(project, {".gitlab-ci.yml": "a: {scripts: [x]}\n"}, branch="broken")
    missing = await wire.post(f"/projects/{project.id}/pipeline", ref="nowhere")
    broken = await wire.post(f"/projects/{project.id}/pipeline", ref="broken")
    assert (missing.status_code, missing.json()["message"]["base"]) == (400, ["Reference not found"])
    assert broken.status_code == 400


async def test_trace_and_artifacts_are_readable(gitlab: FakeGitLab, wire: Wire, job: dict[str, Any]) -> None:
    await wire.patch(job, b"a log\n", 0)
    trace = await wire.get(f"/projects/group%2Fsample/jobs/{job['id']}/trace")
    nothing = await wire.get(f"/projects/group%2Fsample/jobs/{job['id']}/artifacts")
    assert (trace.text, nothing.status_code) == ("a log\n", 404)


async def test_a_runner_is_made_read_changed_and_deleted(gitlab: FakeGitLab, wire: Wire) -> None:
    made = await wire.post(
        "/user/runners", runner_type="instance_type", tag_list="vm,big", run_untagged=False
    )
    path = f"/runners/{made.json()['id']}"
    shown = await wire.get(path)
    mark = gitlab.runner(made.json()["token"]).queue_value
    changed = await wire.client.put(path, json={"paused": True}, headers=wire.as_user)
    deleted = await wire.client.delete(path, headers=wire.as_user)
    again = await wire.client.delete(path, headers=wire.as_user)
    assert made.status_code == 201
    assert made.json()["token"].startswith("glrt-")
    assert (shown.json()["tag_list"], shown.json()["status"]) == (["big", "vm"], "never_contacted")
    assert "token" not in shown.json()
    assert (changed.json()["paused"], changed.json()["tag_list"]) == (True, ["big", "vm"])
    assert mark
    assert (deleted.status_code, again.status_code) == (204, 404)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"runner_type": "nonsense"},
        {"runner_type": "project_type"},
        {"runner_type": "instance_type", "run_untagged": False},
        {"runner_type": "instance_type", "maintenance_note": "x" * 1025},
        {"runner_type": "instance_type", "maximum_timeout": 60},
        {"runner_type": "instance_type", "access_level": "x"},
        {"runner_type": "instance_type", "maximum_timeout": "long"},
        {"runner_type": "instance_type", "tag_list": {"a": 1}},
        {"runner_type": "project_type", "project_id": "x"},
    ],
)
async def test_runners_that_are_refused(gitlab: FakeGitLab, wire: Wire, body: dict[str, Any]) -> None:
    assert (await wire.post("/user/runners", **body)).status_code == 400
    assert gitlab.world.runners == {}


async def test_the_runner_limit_is_400(gitlab: FakeGitLab, wire: Wire) -> None:
    gitlab.behaviour.runner_limit = 1
    codes = [(await wire.post("/user/runners", runner_type="instance_type")).status_code for _ in range(2)]
    assert codes == [201, 400]


async def test_jobs_of_a_runner_by_system_id(gitlab: FakeGitLab, wire: Wire, project: Project) -> None:
    await gitlab.run_pipeline(project)
    token = gitlab.add_runner(["vm", "big"])
    taken = (await wire.ask(token, "fr-a")).json()
    await wire.ask(token, "fr-b")
    path = f"/runners/{gitlab.runner(token).id}/jobs"
    found = await wire.get(path, system_id="fr-a", status="running")
    assert [job["id"] for job in found.json()] == [taken["id"]]


async def test_runners_go_offline_and_stale(gitlab: FakeGitLab, wire: Wire, clock: HeldClock) -> None:
    await wire.ask(gitlab.add_runner())
    seen = []
    for hours in (0, 3, 8 * 24):
        clock.advance(hours * 3600)
        seen.append((await wire.get("/runners")).json()[0]["status"])
    assert seen == ["online", "offline", "stale"]


async def test_an_unknown_route_is_404(wire: Wire) -> None:
    assert (await wire.get("/nothing/here")).status_code == 404
