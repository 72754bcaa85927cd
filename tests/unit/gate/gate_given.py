"""Given: a gate on a real socket, a GitLab double behind it, and machines in the states tests start from."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from firerunner.gate import Gate, GateEvent, GuestFacts, credential_digest
from firerunner.ledger import Ledger, MachineRecord, MachineState, NewJob
from firerunner.machines.spec import Resources

A = "fr-aaaaaaaaaaaa"
B = "fr-bbbbbbbbbbbb"
JOB = 91
DEP = 90
TOKEN = "glcbt-job-91"
DEP_TOKEN = "glcbt-for-90"
SMALL = Resources(1, 512, 1024)
ANSWER = json.dumps(
    {
        "id": JOB,
        "token": TOKEN,
        "job_info": {"name": "unit", "project_id": 7, "project_full_path": "grp/app"},
        "runner_info": {"timeout": 3600},
        "variables": [{"key": "SECRET", "value": "canary"}],
        "dependencies": [{"id": DEP, "token": DEP_TOKEN, "name": "build"}],
        "unknown": {"kept": ["as", "it", "is"]},
    }
).encode()


def credential(machine_id: str) -> str:
    return f"credential-of-{machine_id}"


@dataclass
class Reply:
    """What the double answers next."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'"200"'


@dataclass
class Heard:
    """One request that reached the double, whole."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    size: int
    body: bytes


KEPT_BYTES = 1024 * 1024

Script = Callable[["GitLabDouble", Scope, Receive, Send], Awaitable[None]]


@dataclass
class GitLabDouble:
    """A GitLab of one job: answers as the test has said, and remembers what it heard.

    Bodies are counted, and kept up to 1 MiB.
    """

    heard: list[Heard] = field(default_factory=list)
    replies: dict[str, Reply] = field(default_factory=dict)
    """By `METHOD path`; else a plain acceptance."""
    scripts: dict[str, Script] = field(default_factory=dict)
    """By `METHOD path`: instead of an answer, the test's own ASGI code."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = f"{scope['method']} {scope['path']}"
        script = self.scripts.get(key)
        if script is not None:
            await script(self, scope, receive, send)
            return
        await self.listen(scope, receive)
        await self.reply(send, self.replies.get(key) or _acceptance(scope["method"]))

    async def listen(self, scope: Scope, receive: Receive) -> None:
        kept, size, more = b"", 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError
            chunk = message.get("body", b"")
            size += len(chunk)
            kept += chunk[: KEPT_BYTES - len(kept)]
            more = message.get("more_body", False)
        self.heard.append(
            Heard(
                scope["method"],
                scope["path"],
                scope["query_string"].decode(),
                {name.decode(): value.decode() for name, value in scope["headers"]},
                size,
                kept,
            )
        )

    async def reply(self, send: Send, reply: Reply) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def on(self, method: str, path: str, status: int, body: bytes = b'"x"', **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies[f"{method} /api/v4/{path}"] = Reply(status, named, body)

    def said(self, method: str, path: str) -> list[Heard]:
        return [one for one in self.heard if one.method == method and one.path == f"/api/v4/{path}"]


def _acceptance(method: str) -> Reply:
    return {
        "PUT": Reply(200, {"Job-Status": "running", "X-GitLab-Trace-Update-Interval": "3"}),
        "PATCH": Reply(202, {"Job-Status": "running", "Range": "0-5"}, b""),
        "POST": Reply(201, {}, b'"201"'),
    }.get(method, Reply(200, {}, b"artifact"))


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """The app on a loopback socket, by the protocol code that production uses; yields its URL."""
    config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, timeout_keep_alive=60)
    config.load()
    state = ServerState()

    def protocol() -> asyncio.Protocol:
        made: Any = config.http_protocol_class
        return made(config=config, server_state=state, app_state={})  # type: ignore[no-any-return]

    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = await asyncio.get_running_loop().create_server(protocol, sock=listener)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        tasks = list(state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


@dataclass
class Guest:
    """The honest parts of PID 1 and of gitlab-runner, one call each; what it sends can be bent."""

    http: httpx.AsyncClient
    machine_id: str = A
    credential: str = ""

    def __post_init__(self) -> None:
        self.credential = self.credential or credential(self.machine_id)

    async def booted(self) -> httpx.Response:
        return await self.http.post(self.path("guest/booted"), headers=self._bearer())

    async def ended(self, body: str = "exit_code=0") -> httpx.Response:
        return await self.http.post(self.path("guest/ended"), headers=self._bearer(), content=body)

    async def ask(self, system_id: str = "r_aaaaaaaaaaaa") -> httpx.Response:
        return await self.http.post(
            self.path("api/v4/jobs/request"),
            headers={"RUNNER-TOKEN": self.credential},
            json={"token": self.credential, "system_id": system_id, "info": {}},
        )

    async def update(
        self, state: str = "running", job_id: int = JOB, token: str = TOKEN, **more: Any
    ) -> httpx.Response:
        return await self.http.put(
            self.path(f"api/v4/jobs/{job_id}"),
            headers={"JOB-TOKEN": token},
            json={"token": token, "state": state, **more},
        )

    async def trace(
        self, content: bytes = b"hello", offset: int = 0, job_id: int = JOB, token: str = TOKEN
    ) -> httpx.Response:
        return await self.http.patch(
            self.path(f"api/v4/jobs/{job_id}/trace?debug_trace=false"),
            headers={
                "JOB-TOKEN": token,
                "Content-Type": "text/plain",
                "Content-Range": f"{offset}-{offset + len(content) - 1}",
                "X-Request-Id": "req-1",
            },
            content=content,
        )

    async def upload(
        self, content: Any = b"zip", job_id: int = JOB, token: str = TOKEN, query: str = "artifact_format=zip"
    ) -> httpx.Response:
        return await self.http.post(
            self.path(f"api/v4/jobs/{job_id}/artifacts?{query}"),
            headers={"JOB-TOKEN": token, "Content-Type": "multipart/form-data; boundary=b"},
            content=content,
        )

    async def download(self, job_id: int = DEP, token: str = DEP_TOKEN, query: str = "") -> httpx.Response:
        return await self.http.get(
            self.path(f"api/v4/jobs/{job_id}/artifacts{query}"), headers={"JOB-TOKEN": token}
        )

    def path(self, rest: str) -> str:
        return f"/m/{self.machine_id}/{rest}"

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.credential}"}


PATH_TO = {
    MachineState.CREATING: [MachineState.CREATING],
    MachineState.BOOTING: [MachineState.CREATING, MachineState.BOOTING],
    MachineState.WAITING: [MachineState.CREATING, MachineState.BOOTING],
}


async def machine_in(ledger: Ledger, state: MachineState, machine_id: str = A) -> None:
    await ledger.reserve(machine_id, "demo", "local", SMALL, "sha256:1")
    await ledger.set_credential(machine_id, credential_digest(credential(machine_id)))
    for step in PATH_TO[state]:
        await ledger.move_machine(machine_id, step)
    if state is MachineState.WAITING:
        await ledger.boot(machine_id)


async def give_job(
    ledger: Ledger, machine_id: str = A, job_id: int = JOB, token: str = TOKEN, raw: bytes = ANSWER
) -> None:
    await ledger.begin_ask(machine_id)
    await ledger.keep_answer(machine_id, raw)
    await ledger.take(machine_id, NewJob(job_id, token, "unit", 7, "grp/app", 3600))
    await ledger.end_ask(machine_id, "job")


@dataclass
class World:
    """Everything a gate test holds."""

    ledger: Ledger
    gate: Gate
    gitlab: GitLabDouble
    gate_url: str
    gitlab_url: str
    events: list[GateEvent]
    counts: list[tuple[str, str]]
    facts: dict[str, GuestFacts]
    http: httpx.AsyncClient

    def guest(self, machine_id: str = A, **more: str) -> Guest:
        return Guest(self.http, machine_id, **more)

    def lies(self) -> list[str]:
        return [kind for subject, kind in self.counts if subject == "lie"]

    async def waiting(self, machine_id: str = A) -> Guest:
        """A booted machine without a job."""
        await machine_in(self.ledger, MachineState.WAITING, machine_id)
        return self.guest(machine_id)

    async def assigned(self, machine_id: str = A, **more: Any) -> Guest:
        """A booted machine whose job waits for its ask."""
        guest = await self.waiting(machine_id)
        await give_job(self.ledger, machine_id, **more)
        return guest

    async def delivered(self) -> Guest:
        guest = await self.assigned()
        assert (await guest.ask()).status_code == 201
        return guest

    async def running(self) -> Guest:
        guest = await self.delivered()
        assert (await guest.update()).status_code == 200
        self.events.clear()
        return guest


def usual_facts(machine: MachineRecord) -> GuestFacts:
    return GuestFacts(
        gate_url=f"http://10.0.2.2/m/{machine.machine_id}",
        clone_url="http://gitlab.test:8080",
        hosts=(("10.0.2.2", "gitlab.test"),),
    )
