"""Git over smart HTTP: the real `git http-backend` as a CGI program, behind GitLab's access rules.

Private projects answer 401 with `WWW-Authenticate` until the client shows `gitlab-ci-token` and the token
of a job that is on a runner, or any user name with an API token. A job token may only fetch.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import signal
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from firerunner.fakes.gitlab import repository
from firerunner.fakes.gitlab.job_payload import JOB_USER
from firerunner.fakes.gitlab.model import Project
from firerunner.fakes.gitlab.world import World

CHUNK_BYTES = 64 * 1024
HEAD_LIMIT_BYTES = 16 * 1024
SERVICES = frozenset({"git-upload-pack", "git-receive-pack"})


class GitHttp:
    """Serves every project's repository at `/<path>.git`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """The routes, from the root."""
        return [
            Route("/{project:path}.git/info/refs", self.serve, methods=["GET"]),
            Route("/{project:path}.git/git-upload-pack", self.serve, methods=["POST"]),
            Route("/{project:path}.git/git-receive-pack", self.serve, methods=["POST"]),
        ]

    async def serve(self, request: Request) -> Response:
        """One request of a git client, streamed through `git http-backend`."""
        project = self._world.project(request.path_params["project"])
        service = request.query_params.get("service") or request.url.path.rsplit("/", 1)[-1]
        refusal = self._refusal(request, project, service)
        if refusal is not None or project is None:
            return refusal or PlainTextResponse("Repository not found", 404)
        path = "/info/refs" if request.method == "GET" else f"/{service}"
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            env=self._cgi(request, project, path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=CHUNK_BYTES,
            start_new_session=True,
        )
        feeding = asyncio.ensure_future(_feed(request, process))
        try:
            status, headers = await _read_head(process)
        except BaseException:
            await _stop(process, feeding)
            raise
        return _CgiResponse(process, feeding, status, headers)

    def _refusal(self, request: Request, project: Project | None, service: str) -> Response | None:
        if service not in SERVICES:
            return PlainTextResponse("Only the smart protocol is served here", 403)
        return refusal(self._world, request, project, writing=service == "git-receive-pack")

    def _cgi(self, request: Request, project: Project, path: str) -> dict[str, str]:
        headers = request.headers
        variables = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_COMMITTER_NAME": repository.AUTHOR_NAME,
            "GIT_COMMITTER_EMAIL": repository.AUTHOR_EMAIL,
            "GIT_PROJECT_ROOT": str(project.repository),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "git",
            "REMOTE_ADDR": request.client.host if request.client else "",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": path,
            "QUERY_STRING": request.url.query,
            "CONTENT_TYPE": headers.get("content-type", ""),
            "GATEWAY_INTERFACE": "CGI/1.1",
            "SERVER_PROTOCOL": "HTTP/1.1",
        }
        if "content-length" in headers:
            variables["CONTENT_LENGTH"] = headers["content-length"]
        if "content-encoding" in headers:
            variables["HTTP_CONTENT_ENCODING"] = headers["content-encoding"]
        if "git-protocol" in headers:
            variables["GIT_PROTOCOL"] = headers["git-protocol"]
        return variables


def refusal(world: World, request: Request, project: Project | None, *, writing: bool) -> Response | None:
    """Why this request may not touch the project's repository; None if it may."""
    user, password = _basic(request)
    if "api" in world.api_tokens.get(password, frozenset()):
        return None
    job = world.running_job_by_token(password) if user == JOB_USER else None
    if job and project and (job.project is project or job.project.id in project.job_token_allowlist):
        return PlainTextResponse("You are not allowed to upload code.", 403) if writing else None
    if project is not None and not project.private and not writing:
        return None
    challenge = {"WWW-Authenticate": 'Basic realm="GitLab"'}
    return PlainTextResponse("HTTP Basic: Access denied", 401, headers=challenge)


def _basic(request: Request) -> tuple[str, str]:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return user, password


async def _feed(request: Request, process: asyncio.subprocess.Process) -> None:
    """Give the body to the program; it may end before it has read all."""
    assert process.stdin is not None  # noqa: S101
    try:
        async for chunk in request.stream():
            process.stdin.write(chunk)
            await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return
    finally:
        process.stdin.close()


async def _read_head(process: asyncio.subprocess.Process) -> tuple[int, dict[str, str]]:
    assert process.stdout is not None  # noqa: S101
    status, headers = 200, {}
    while line := (await process.stdout.readline()).decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "status":
            status = int(value.split()[0])
        else:
            headers[name] = value.strip()
    return (status, headers) if headers or status != 200 else (500, {})


class _CgiResponse(StreamingResponse):
    """Streams the program's output, and ends the program when the answer ends, for whatever reason."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        feeding: asyncio.Future[None],
        status: int,
        headers: dict[str, str],
    ) -> None:
        super().__init__(_output(process), status, headers=headers)
        self._process = process
        self._feeding = feeding

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await _stop(self._process, self._feeding)


async def _output(process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    assert process.stdout is not None  # noqa: S101
    while chunk := await process.stdout.read(CHUNK_BYTES):
        yield chunk


async def _stop(process: asyncio.subprocess.Process, feeding: asyncio.Future[None]) -> None:
    """End the program and what it started, also when the client has gone; leave no pipe behind."""
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.communicate()
