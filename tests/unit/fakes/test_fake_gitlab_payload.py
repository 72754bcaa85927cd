"""What a 201 holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_gitlab_wire import Wire

from firerunner.fakes.gitlab import FakeGitLab, HeldClock

pytestmark = pytest.mark.anyio

CI = """
variables: {LEVEL: global, OTHER: global}
work:
  variables: {LEVEL: job}
  before_script: [one]
  script: [two, three]
  after_script: [four]
  timeout: 20 minutes
  parallel: 2
  artifacts: {paths: [out], when: always, expire_in: 1 day}
"""


async def first_payload(gitlab: FakeGitLab, **runner: Any) -> dict[str, Any]:
    project = await gitlab.add_project(
        "group/sub/app", {".gitlab-ci.yml": CI}, variables={"OTHER": "project"}
    )
    await gitlab.run_pipeline(project, variables={"GIVEN": "yes"})
    async with httpx.AsyncClient(base_url=f"{gitlab.url}/api/v4", trust_env=False) as client:
        payload: dict[str, Any] = (await Wire(gitlab, client).ask(gitlab.add_runner(**runner))).json()
    return payload


def effective(payload: dict[str, Any]) -> dict[str, str]:
    return {variable["key"]: variable["value"] for variable in payload["variables"]}


async def test_steps_artifacts_and_timeout(gitlab: FakeGitLab) -> None:
    payload = await first_payload(gitlab)
    script, after = payload["steps"]
    assert (script["name"], script["script"], script["when"]) == (
        "script",
        ["one", "two", "three"],
        "on_success",
    )
    assert (after["name"], after["script"], after["when"]) == ("after_script", ["four"], "always")
    assert after["allow_failure"]
    (artifact,) = payload["artifacts"]
    assert (artifact["paths"], artifact["when"], artifact["expire_in"]) == (["out"], "always", "1 day")
    assert (artifact["artifact_type"], artifact["artifact_format"]) == ("archive", "zip")
    assert payload["runner_info"]["timeout"] == 1200


async def test_the_runners_own_maximum_shortens_the_timeout(gitlab: FakeGitLab) -> None:
    payload = await first_payload(gitlab, maximum_timeout_s=900)
    assert payload["runner_info"]["timeout"] == 900


async def test_variables(gitlab: FakeGitLab) -> None:
    payload = await first_payload(gitlab, tags=["vm"])
    values = effective(payload)
    job = gitlab.job("work 1/2")
    assert (values["LEVEL"], values["OTHER"], values["GIVEN"]) == ("job", "project", "yes")
    assert (values["CI_NODE_INDEX"], values["CI_NODE_TOTAL"]) == ("1", "2")
    assert values["CI_JOB_ID"] == str(payload["id"]) == str(job.id)
    assert values["CI_PROJECT_PATH"] == "group/sub/app"
    assert values["CI_SERVER_URL"] == gitlab.url
    assert values["CI_API_V4_URL"] == f"{gitlab.url}/api/v4"
    assert values["CI_RUNNER_TAGS"] == '["vm"]'
    (token,) = (variable for variable in payload["variables"] if variable["key"] == "CI_JOB_TOKEN")
    flags = {"public": False, "file": False, "masked": True, "raw": False}
    assert token == {"key": "CI_JOB_TOKEN", "value": job.token, **flags}


async def test_git_info_points_at_the_commit(gitlab: FakeGitLab) -> None:
    payload = await first_payload(gitlab)
    git = payload["git_info"]
    pipeline = gitlab.job("work 1/2").pipeline
    port = gitlab.url.rpartition(":")[2]
    assert git["repo_url"] == f"http://gitlab-ci-token:{payload['token']}@127.0.0.1:{port}/group/sub/app.git"
    assert (git["sha"], git["ref"], git["ref_type"], git["depth"]) == (pipeline.sha, "main", "branch", 20)
    assert git["refspecs"] == [
        f"+refs/pipelines/{pipeline.id}:refs/pipelines/{pipeline.id}",
        "+refs/heads/main:refs/remotes/origin/main",
    ]


async def test_types_that_the_runner_is_strict_about(gitlab: FakeGitLab) -> None:
    payload = await first_payload(gitlab)
    assert payload["job_info"]["project_jobs_running_on_instance_runners_count"] == "0"
    assert isinstance(payload["job_info"]["time_in_queue_seconds"], float)
    assert "runner_system_failure" in payload["features"]["failure_reasons"]


async def test_every_url_is_built_from_the_external_one(tmp_path: Path, clock: HeldClock) -> None:
    async with FakeGitLab(tmp_path, clock=clock, external_url="http://gitlab.test:PORT") as gitlab:
        payload = await first_payload(gitlab)
    port = gitlab.url.rpartition(":")[2]
    assert gitlab.external_url == f"http://gitlab.test:{port}"
    assert payload["git_info"]["repo_url"].endswith(f"@gitlab.test:{port}/group/sub/app.git")
    assert effective(payload)["CI_SERVER_URL"] == gitlab.external_url
    assert effective(payload)["CI_SERVER_HOST"] == "gitlab.test"


async def test_an_instance_may_live_below_a_path(tmp_path: Path, clock: HeldClock) -> None:
    async with FakeGitLab(tmp_path, clock=clock, external_url="http://gitlab.test/git") as gitlab:
        await first_payload(gitlab)
        async with httpx.AsyncClient(base_url=gitlab.url, trust_env=False) as client:
            headers = {"PRIVATE-TOKEN": gitlab.api_token}
            path = "/api/v4/projects/group%2Fsub%2Fapp/jobs?per_page=1"
            answer = await client.get(path, headers=headers)
        async with httpx.AsyncClient(trust_env=False) as client:
            elsewhere = await client.get(gitlab.url.removesuffix("/git") + path, headers=headers)
    assert elsewhere.status_code == 404
    assert answer.status_code == 200
    assert "<http://gitlab.test/git/api/v4/projects/group%2Fsub%2Fapp/jobs?" in answer.headers["Link"]
