"""A small GitLab for one job, and the stand-in runner as a process beside it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import socket
import zipfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from tests.certificates import Authority

from firerunner.guest.scripts import GuestScript
from firerunner.serving import Certificate, served

JOB_TOKEN = "job-token-7"
PREFIX = "/m/fr-0123456789ab"


def job(*script: str, after: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """GitLab's answer to an ask; without git, because its own tests are elsewhere."""
    variables = [
        {"key": "GIT_STRATEGY", "value": "none"},
        {"key": "CI_PROJECT_PATH", "value": "group/project"},
        *fields.pop("variables", ()),
    ]
    steps = [{"name": "script", "script": list(script)}, {"name": "after_script", "script": list(after)}]
    return {
        "id": 7,
        "token": JOB_TOKEN,
        "job_info": {"name": "build", "project_full_path": "group/project"},
        "git_info": {"repo_url": "http://gitlab.example/group/project.git", "sha": "0" * 40, "refspecs": []},
        "runner_info": {"timeout": 600},
        "variables": variables,
        "steps": steps,
        **fields,
    }


@dataclass(slots=True)
class OneJobGitLab:
    """Answers like GitLab; the fields say how, and what was heard."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    status: str = "running"
    canceling_at: str | None = None
    """The job is `canceling` from when the trace holds this text."""
    aborted_at: str | None = None
    forget_trace_at: int | None = None
    """Once, when so many bytes are there, the trace is found to be empty."""
    finals_accepted: int = 0
    """So many final updates are answered 202 first."""
    redirect_uploads: bool = False
    cut_jobs: int = 0
    """So many answers with a job are cut off in the middle first."""
    artifacts: dict[int, bytes] = field(default_factory=dict)

    asks: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    trace: bytes = b""
    uploads: list[tuple[str, bytes]] = field(default_factory=list)
    refused_patches: int = 0

    @property
    def final(self) -> dict[str, Any]:
        return self.updates[-1]

    def application(self) -> Starlette:
        call = f"{PREFIX}/api/v4/jobs"
        return Starlette(
            routes=[
                Route(f"{call}/request", self._ask, methods=["POST"]),
                Route(f"{call}/7", self._update, methods=["PUT"]),
                Route(f"{call}/7/trace", self._patch, methods=["PATCH"]),
                Route(f"{call}/7/artifacts", self._upload, methods=["POST"]),
                Route("/elsewhere", self._upload_elsewhere, methods=["POST"]),
                Route(call + "/{id:int}/artifacts", self._download, methods=["GET"]),
            ]
        )

    async def _ask(self, request: Request) -> Response:
        self.asks.append({**await request.json(), "header": request.headers.get("runner-token")})
        if self.cut_jobs:
            self.cut_jobs -= 1
            whole = json.dumps(self.jobs.pop(0))
            half = whole[: len(whole) // 2]
            return Response(half, 201, headers={"Content-Length": str(len(whole))})
        if self.jobs:
            return Response(json.dumps(self.jobs.pop(0)), 201, media_type="application/json")
        return Response(status_code=204, headers={"X-GitLab-Last-Update": "v1"})

    async def _update(self, request: Request) -> Response:
        assert request.headers["job-token"] == JOB_TOKEN
        self.updates.append(await request.json())
        if self.updates[-1]["state"] != "running" and self.finals_accepted > 0:
            self.finals_accepted -= 1
            return self._answer(202)
        return self._answer(200)

    async def _patch(self, request: Request) -> Response:
        assert request.headers["job-token"] == JOB_TOKEN
        body = await request.body()
        start, end = map(int, request.headers["content-range"].split("-"))
        assert end - start + 1 == len(body)
        if self.forget_trace_at is not None and len(self.trace) >= self.forget_trace_at:
            self.trace, self.forget_trace_at = b"", None
        if start != len(self.trace):
            self.refused_patches += 1
            return self._answer(416)
        self.trace += body
        return self._answer(202)

    async def _upload(self, request: Request) -> Response:
        if self.redirect_uploads:
            await request.body()
            return RedirectResponse(f"/elsewhere?{request.url.query}", 307)
        return await self._upload_elsewhere(request)

    async def _upload_elsewhere(self, request: Request) -> Response:
        assert request.headers["job-token"] == JOB_TOKEN
        body = await request.body()
        self.uploads.append((request.url.query, body[body.index(b"PK") :]))
        return Response("{}", 201)

    async def _download(self, request: Request) -> Response:
        content = self.artifacts.get(request.path_params["id"])
        if content is None or request.headers.get("job-token") != f"token-{request.path_params['id']}":
            return Response(status_code=404)
        return Response(content)

    def _answer(self, code: int) -> Response:
        status = self.status
        if self.canceling_at is not None and self.canceling_at.encode() in self.trace:
            status = "canceling"
        if self.aborted_at is not None and self.aborted_at.encode() in self.trace:
            status = "canceled"
        headers = {
            "Job-Status": status,
            "Range": f"0-{len(self.trace)}",
            "X-GitLab-Trace-Update-Interval": "0.1",
        }
        return Response(status_code=code, headers=headers)

    def log(self) -> str:
        """The trace without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.trace.decode())

    def checksum(self) -> str:
        return f"crc32:{zlib.crc32(self.trace):08x}"

    def uploaded(self) -> dict[str, bytes]:
        """The files in the one archive that was uploaded."""
        [(_, content)] = self.uploads
        return unzip(content)


def unzip(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}


def zipped(**files: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


@asynccontextmanager
async def serving(gitlab: OneJobGitLab, certificate: Certificate | None) -> AsyncIterator[str]:
    scheme = "http" if certificate is None else "https"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with served(gitlab.application(), listener, certificate=certificate):
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}{PREFIX}"


async def run_stand_in(
    tmp_path: Path,
    gitlab: OneJobGitLab,
    *,
    wait_timeout_s: int = 1,
    signed_by: Authority | None = None,
    trusted: Authority | None = None,
) -> int:
    """Run the stand-in to its end as PID 1 does; returns its exit status. Leaves nothing running.

    `signed_by`: GitLab speaks HTTPS; `trusted`: whom the stand-in's configuration names.
    """
    certificate = Certificate(*signed_by.server(tmp_path, ["127.0.0.1"])) if signed_by else None
    async with serving(gitlab, certificate) as url:
        directory = tmp_path / "firerunner"
        directory.mkdir()
        (tmp_path / "tmp").mkdir()
        config = directory / "config.toml"
        config.write_text(
            "concurrent = 1\n\n[[runners]]\n"
            f'name = "firerunner"\nurl = "{url}"\ntoken = "credential"\nexecutor = "shell"\n'
            f'builds_dir = "{tmp_path}/builds"\ncache_dir = "{tmp_path}/cache"\n'
            + (f'tls-ca-file = "{trusted.file}"\n' if trusted else "")
        )
        (directory / ".runner_system_id").write_text("r_0123456789ab")
        runner = tmp_path / "gitlab-runner"
        runner.write_bytes(GuestScript.STAND_IN.read())
        process = await asyncio.create_subprocess_exec(
            *("bash", str(runner), "run-single", "--config", str(config), "--runner", "firerunner"),
            *("--max-builds", "1", "--wait-timeout", str(wait_timeout_s)),
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TMPDIR": str(tmp_path / "tmp")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            return await asyncio.wait_for(process.wait(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            for groups in (tmp_path / "tmp").glob("*/groups"):
                for group in groups.read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(int(group), signal.SIGKILL)
