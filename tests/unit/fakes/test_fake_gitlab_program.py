"""The fake as a program of its own, driven through its control endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from firerunner.fakes.gitlab import FakeGitLab

pytestmark = pytest.mark.anyio

FILES = {".gitlab-ci.yml": "only:\n  script: [echo hi]\n"}


@contextlib.asynccontextmanager
async def program(
    folder: Path, *arguments: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "firerunner.fakes.gitlab", "--data", str(folder), *arguments,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process, json.loads(await process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.communicate()


async def test_a_job_from_start_to_end(tmp_path: Path) -> None:
    async with (
        program(tmp_path, "--external-url", "http://gitlab.test:PORT") as (process, ready),
        httpx.AsyncClient(base_url=ready["control_url"], trust_env=False) as control,
    ):
        await control.post("/projects", json={"path": "group/sample", "files": FILES})
        runner = (await control.post("/runners", json={"tags": ["vm"], "description": "pool"})).json()
        await control.post("/hooks", json={"project": "group/sample", "url": "http://127.0.0.1:1/"})
        await control.post("/hooks/drop", json={"job": "only"})
        pipeline = (await control.post("/pipelines", json={"project": "group/sample"})).json()
        (waiting,) = pipeline["jobs"]
        async with httpx.AsyncClient(base_url=f"{ready['url']}/api/v4", trust_env=False) as api:
            job = (await api.post("/jobs/request", json={"token": runner["token"], "system_id": "a"})).json()
            headers = {"JOB-TOKEN": job["token"], "Content-Range": "0-2"}
            await api.patch(f"/jobs/{job['id']}/trace", content=b"hi\n", headers=headers)
            too_early = await control.get(f"/jobs/{job['id']}/wait", params={"timeout_s": 0.01})
            await api.put(f"/jobs/{job['id']}", json={"token": job["token"], "state": "success"})
        ended = (await control.get(f"/jobs/{job['id']}/wait")).json()
        trace = (await control.get(f"/jobs/{job['id']}/trace")).text
        again = (await control.post(f"/jobs/{job['id']}/retry")).json()
        cancelled = (await control.post(f"/jobs/{again['id']}/cancel")).json()
        state = (await control.get("/state")).json()
    assert ready["external_url"] == ready["url"].replace("127.0.0.1", "gitlab.test")
    assert "gitlab.test" in job["git_info"]["repo_url"]
    assert (waiting["id"], waiting["status"], too_early.status_code) == (job["id"], "pending", 408)
    assert (ended["status"], ended["handed_out"], ended["last_line"], trace) == ("success", 1, "hi", "hi\n")
    assert [status for status, _ in ended["timeline"]] == ["created", "pending", "running", "success"]
    assert cancelled["status"] == "canceled"
    assert (len(state["managers"]), state["managers_made"]) == (1, 1)
    assert {delivery["outcome"] for delivery in state["deliveries"]} == {"dropped"}
    assert process.returncode == 0


async def test_rules_and_knobs_can_be_set_from_outside(tmp_path: Path) -> None:
    async with FakeGitLab(tmp_path, control=True) as gitlab, httpx.AsyncClient(trust_env=False) as client:
        client.base_url = httpx.URL(gitlab.url)
        await client.post("/-/fake/rules", json={"path": "/api/v4/version", "status": 503})
        struck = await client.get("/api/v4/version")
        await client.delete("/-/fake/rules")
        spared = await client.get("/api/v4/version")
        await client.patch("/-/fake/behaviour", json={"trace_update_interval_s": 60})
        unknown = await client.patch("/-/fake/behaviour", json={"mood": "bad"})
        bad = await client.post("/-/fake/pipelines", json={"project": "no/such"})
        typo = await client.post("/-/fake/runners", json={"tag": ["vm"]})
    assert (struck.status_code, spared.status_code) == (503, 401)
    assert gitlab.behaviour.trace_update_interval_s == 60
    assert (unknown.status_code, bad.status_code, typo.status_code) == (400, 404, 400)
    assert "tag" in typo.json()["message"]


async def test_control_exists_only_where_asked_for(tmp_path: Path) -> None:
    async with FakeGitLab(tmp_path) as gitlab, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{gitlab.url}/-/fake/state")).status_code == 404


async def test_a_second_start_in_the_same_folder_begins_afresh(tmp_path: Path) -> None:
    for _ in range(2):
        async with FakeGitLab(tmp_path) as gitlab:
            project = await gitlab.add_project("group/sample", FILES)
            await gitlab.run_pipeline(project)
    assert [job.name for job in gitlab.jobs()] == ["only"]
