"""Git over HTTP with the real git client."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from fake_gitlab_wire import Wire

from firerunner.fakes.gitlab import FakeGitLab

pytestmark = pytest.mark.anyio

Payload = dict[str, Any]


async def git(cwd: Path, *arguments: str) -> int:
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(cwd), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.com",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        "git", *arguments, cwd=cwd, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    return await process.wait()


def processes_of(folder: Path) -> list[int]:
    """Running programs that serve a repository in this folder."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"GIT_PROJECT_ROOT={folder}".encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
    return found


async def test_a_running_job_clones_with_its_token(tmp_path: Path, job: Payload) -> None:
    code = await git(tmp_path, "clone", "--depth", "20", job["git_info"]["repo_url"], "clone")
    assert code == 0
    assert (tmp_path / "clone" / ".gitlab-ci.yml").read_text().startswith("only:")


async def test_the_refspecs_of_the_payload_bring_the_commit(
    gitlab: FakeGitLab, tmp_path: Path, job: Payload
) -> None:
    project = gitlab.job("only").project
    await gitlab.commit(project, {"later": "x"})
    await git(tmp_path, "init", "-q")
    info = job["git_info"]
    fetched = await git(tmp_path, "fetch", "--depth", "20", info["repo_url"], *info["refspecs"])
    checked_out = await git(tmp_path, "checkout", "-q", info["sha"])
    assert (fetched, checked_out, (tmp_path / "later").exists()) == (0, 0, False)


async def test_a_large_repository_streams(gitlab: FakeGitLab, wire: Wire, tmp_path: Path) -> None:
    noise = os.urandom(3_000_000)
    project = await gitlab.add_project(
        "group/large", {".gitlab-ci.yml": "a: {script: [x]}\n", "noise": noise}
    )
    await gitlab.run_pipeline(project)
    job = (await wire.ask(gitlab.add_runner())).json()
    assert await git(tmp_path, "clone", job["git_info"]["repo_url"], "clone") == 0
    assert (tmp_path / "clone" / "noise").read_bytes() == noise


async def test_a_client_that_leaves_in_the_middle_leaves_no_git_behind(
    gitlab: FakeGitLab, wire: Wire, tmp_path: Path
) -> None:
    files = {".gitlab-ci.yml": "a: {script: [x]}\n", "noise": os.urandom(16_000_000)}
    project = await gitlab.add_project("group/large", files)
    sha = (await gitlab.run_pipeline(project)).sha
    want = f"0032want {sha}\n00000009done\n".encode()
    url = f"{gitlab.url}/group/large.git/git-upload-pack"
    headers = {"Content-Type": "application/x-git-upload-pack-request"}

    async with wire.client.stream(
        "POST", url, content=want, headers=headers, auth=("user", gitlab.api_token)
    ) as answer:
        started = await anext(answer.aiter_raw())
        during = processes_of(tmp_path)
    await gitlab.wait_for(lambda: gitlab.calls("POST", ".*git-upload-pack")[-1].ended)

    assert started.startswith(b"0008NAK\n")
    assert during != []
    assert processes_of(tmp_path) == []


async def test_an_ended_job_clones_no_more(wire: Wire, tmp_path: Path, job: Payload) -> None:
    await wire.put(job, "success")
    assert await git(tmp_path, "clone", job["git_info"]["repo_url"], "clone") != 0


async def test_a_job_token_may_not_push_but_an_api_token_may(
    gitlab: FakeGitLab, tmp_path: Path, job: Payload
) -> None:
    url = job["git_info"]["repo_url"]
    await git(tmp_path, "clone", url, "clone")
    clone = tmp_path / "clone"
    await git(clone, "commit", "--allow-empty", "-m", "more")
    by_job = await git(clone, "push", url, "HEAD:topic")
    address = gitlab.url.removeprefix("http://")
    by_user = await git(
        clone, "push", f"http://oauth2:{gitlab.api_token}@{address}/group/sample.git", "HEAD:topic"
    )
    assert by_job != 0
    assert by_user == 0
    assert (await gitlab.run_pipeline(gitlab.job("only").project, "topic")).ref == "topic"


async def test_without_credentials_a_private_project_asks_for_them(gitlab: FakeGitLab, wire: Wire) -> None:
    await gitlab.add_project("group/private", {"README": "x"})
    refs = f"{gitlab.url}/group/private.git/info/refs"
    asked = await wire.client.get(refs, params={"service": "git-upload-pack"})
    unknown = await wire.client.get(refs.replace("private", "nothing"), params={"service": "git-upload-pack"})
    dumb = await wire.client.get(refs)
    assert (asked.status_code, asked.headers["WWW-Authenticate"]) == (401, 'Basic realm="GitLab"')
    assert (unknown.status_code, dumb.status_code) == (401, 403)


async def test_a_job_of_another_project_is_refused(gitlab: FakeGitLab, tmp_path: Path, job: Payload) -> None:
    await gitlab.add_project("group/other", {"README": "x"})
    url = job["git_info"]["repo_url"].replace("group/sample", "group/other")
    assert await git(tmp_path, "clone", url, "clone") != 0


async def test_a_public_project_is_cloned_by_anyone(gitlab: FakeGitLab, tmp_path: Path) -> None:
    await gitlab.add_project("group/public", {"README": "x"}, private=False)
    assert await git(tmp_path, "clone", f"{gitlab.url}/group/public.git", "clone") == 0


async def test_a_folder_becomes_a_repository(gitlab: FakeGitLab, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "a dir").mkdir(parents=True)
    (source / ".git").mkdir()
    (source / ".git" / "config").write_text("not ours")
    (source / "a dir" / 'odd "name"').write_bytes(b"\x00\xff")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    (source / "link").symlink_to("run.sh")
    await gitlab.add_project("group/folder", source, private=False)
    await git(tmp_path, "clone", f"{gitlab.url}/group/folder.git", "clone")
    clone = tmp_path / "clone"
    assert (clone / "a dir" / 'odd "name"').read_bytes() == b"\x00\xff"
    assert os.access(clone / "run.sh", os.X_OK)
    assert str((clone / "link").readlink()) == "run.sh"
    assert "not ours" not in (clone / ".git" / "config").read_text()


async def test_a_commit_replaces_the_files_and_has_a_parent(gitlab: FakeGitLab, wire: Wire) -> None:
    ci = "a: {script: [x]}\n"
    project = await gitlab.add_project("group/moving", {".gitlab-ci.yml": ci, "old": "x"})
    first = await gitlab.run_pipeline(project)
    sha = await gitlab.commit(project, {".gitlab-ci.yml": ci}, message="Second\n\nwith more")
    second = await gitlab.run_pipeline(project)
    assert (second.sha, second.before_sha, first.before_sha) == (sha, first.sha, "0" * 40)
    assert second.message == "Second\n\nwith more\n"


async def test_equal_files_make_equal_commits(gitlab: FakeGitLab) -> None:
    projects = [
        await gitlab.add_project(f"group/{name}", {".gitlab-ci.yml": "a: {script: [x]}\n"}) for name in "ab"
    ]
    first, second = [await gitlab.run_pipeline(project) for project in projects]
    assert first.sha == second.sha
