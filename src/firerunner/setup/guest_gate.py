"""A gate for one guest that hands out one job of our own making, and listens to its log."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from firerunner.gate import GuestFacts
from firerunner.gate.welcome import welcome
from firerunner.serving import served

JOB_ID: Final = 1
MAX_LOG_BYTES: Final = 256 * 1024


@dataclass(slots=True)
class GuestGate:
    """What the guest can see of us."""

    machine_id: str
    credential: str
    job_token: str
    script: Sequence[str]
    facts: GuestFacts | None = None
    address: str = ""
    booted: bool = False
    asked: bool = False
    log: bytearray = field(default_factory=bytearray)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    def application(self) -> Starlette:
        """To be served where the machine's keeper connects to."""
        guest, api = f"/m/{self.machine_id}/guest", f"/m/{self.machine_id}/api/v4"
        return Starlette(
            routes=[
                Route(f"{guest}/booted", self._on_booted, methods=["POST"]),
                Route(f"{guest}/ended", self._on_ended, methods=["POST"]),
                Route(f"{api}/jobs/request", self._on_ask, methods=["POST"]),
                Route(f"{api}/jobs/{JOB_ID}", self._on_update, methods=["PUT"]),
                Route(f"{api}/jobs/{JOB_ID}/trace", self._on_trace, methods=["PATCH"]),
            ]
        )

    async def _on_booted(self, request: Request) -> Response:
        if self.facts is None or request.headers.get("authorization") != f"Bearer {self.credential}":
            return Response(status_code=403)
        self.booted = True
        packed = welcome(self.machine_id, self.credential, self.facts, int(time.time()))
        return Response(packed, media_type="application/x-tar")

    async def _on_ended(self, request: Request) -> Response:
        self.finished.set()
        return Response(status_code=204)

    async def _on_ask(self, request: Request) -> Response:
        if self.asked:
            return Response(status_code=204)
        self.asked = True
        return JSONResponse(self._job(), 201)

    async def _on_update(self, request: Request) -> Response:
        if (await request.json()).get("state") in {"success", "failed"}:
            self.finished.set()
        return PlainTextResponse("200", headers={"Job-Status": "running"})

    async def _on_trace(self, request: Request) -> Response:
        body = await request.body()
        start = int(request.headers.get("Content-Range", "0").partition("-")[0])
        if start != len(self.log) or start + len(body) > MAX_LOG_BYTES:
            return Response(status_code=416, headers={"Range": f"0-{len(self.log)}"})
        self.log += body
        headers = {"Job-Status": "running", "Range": f"0-{len(self.log)}"}
        return PlainTextResponse("202", 202, headers=headers)

    def _job(self) -> dict[str, Any]:
        """The least that a runner needs (gitlab-runner common/spec/spec.go)."""
        variables = {"GIT_STRATEGY": "none", "CI_PROJECT_PATH": "firerunner/check", "CI_JOB_ID": str(JOB_ID)}
        return {
            "id": JOB_ID,
            "token": self.job_token,
            "allow_git_fetch": True,
            "job_info": {
                "id": JOB_ID,
                "name": "check",
                "stage": "test",
                "project_id": 1,
                "project_name": "check",
            },
            "git_info": {
                "repo_url": "http://localhost/firerunner/check.git",
                "ref": "main",
                "sha": "0" * 40,
                "before_sha": "0" * 40,
                "ref_type": "branch",
                "refspecs": [],
                "depth": 1,
            },
            "runner_info": {"timeout": 300},
            "variables": [
                {"key": key, "value": value, "public": True, "file": False, "masked": False, "raw": False}
                for key, value in variables.items()
            ],
            "steps": [
                {
                    "name": "script",
                    "script": list(self.script),
                    "timeout": 300,
                    "when": "on_success",
                    "allow_failure": False,
                }
            ],
            "image": {"name": ""},
            "services": [],
            "artifacts": [],
            "cache": [],
            "credentials": [],
            "dependencies": [],
            "hooks": [],
            "features": {
                "trace_sections": False,
                "failure_reasons": ["script_failure", "runner_system_failure"],
            },
        }


@contextlib.asynccontextmanager
async def open_gate(gate: GuestGate) -> AsyncIterator[None]:
    """Serve it on loopback, where the keeper of a machine on this computer reaches it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gate.address = f"127.0.0.1:{listener.getsockname()[1]}"
        async with served(gate.application(), listener):
            yield
