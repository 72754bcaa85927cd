"""What a runner may say: verify, ask for a job, report on it, and be forgotten.

Follows Rails `lib/api/ci/runner.rb`, `lib/api/ci/helpers/runner.rb` and, in `app/services/ci/`,
`register_job_service.rb`, `update_build_state_service.rb` and `append_build_trace_service.rb`; holding an ask
is Workhorse's long polling.
"""

from __future__ import annotations

import asyncio
import math
import re
import zlib
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from firerunner.fakes.gitlab import scheduler
from firerunner.fakes.gitlab.answers import (
    Refused,
    client_address,
    integer,
    json_body,
    mapping,
    message,
    plain,
    required,
)
from firerunner.fakes.gitlab.job_payload import payload
from firerunner.fakes.gitlab.model import ON_RUNNER, Job, Manager, Runner
from firerunner.fakes.gitlab.world import Ask, World

LAST_UPDATE = "X-GitLab-Last-Update"
UPDATE_INTERVAL = "X-GitLab-Trace-Update-Interval"
LEGACY_SYSTEM_ID = "<legacy>"
FINAL_BACKOFF_MAX_S = 64


class RunnerApi:
    """The endpoints below `/api/v4` that take a runner token or a job token, artifacts apart."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """The routes, without the `/api/v4` prefix."""
        return [
            Route("/runners/verify", self.verify, methods=["POST"]),
            Route("/runners/reset_authentication_token", self.reset_token, methods=["POST"]),
            Route("/runners/managers", self.delete_manager, methods=["DELETE"]),
            Route("/runners/router/discovery", self.discover_router, methods=["GET"]),
            Route("/runners", self.delete_runner, methods=["DELETE"]),
            Route("/jobs/request", self.request_job, methods=["POST"]),
            Route("/jobs/{job_id:int}", self.update_job, methods=["PUT"]),
            Route("/jobs/{job_id:int}/trace", self.append_trace, methods=["PATCH"]),
        ]

    async def verify(self, request: Request) -> Response:
        """200 with the runner's facts; 403 for an unknown token."""
        body = await json_body(request)
        runner = self._runner(body)
        self._manager(request, runner, body)
        return JSONResponse({"id": runner.id, "token": runner.token, "token_expires_at": None})

    async def reset_token(self, request: Request) -> Response:
        """A new token for the runner that shows its old one."""
        body = await json_body(request)
        runner = self._runner(body)
        self._manager(request, runner, body)
        runner.token = self._world.new_runner_token()
        return JSONResponse({"token": runner.token, "token_expires_at": None}, 201)

    async def delete_runner(self, request: Request) -> Response:
        """204; 403 for an unknown token."""
        runner = self._runner(await json_body(request))
        self._world.forget_runner(runner)
        return Response(status_code=204)

    async def delete_manager(self, request: Request) -> Response:
        """204; 403 for an unknown token, 404 for an unknown system id."""
        body = await json_body(request)
        required(body, "token")
        system_id = required(body, "system_id")
        runner = self._runner(body)
        if runner.managers.pop(str(system_id), None) is None:
            return JSONResponse({"message": "404 Runner manager not found Not Found"}, 404)
        self._world.changes.ring()
        return Response(status_code=204)

    async def discover_router(self, request: Request) -> Response:
        """The job router is not switched on here."""
        if self._world.runner_by_token(request.headers.get("runner-token", "")) is None:
            return message(403)
        return JSONResponse(
            {"message": "Job Router is not available. Please contact your administrator."}, 501
        )

    async def request_job(self, request: Request) -> Response:
        """201 with a job, or 204 with the queue's mark; a manager record is made first in any case."""
        body = await json_body(request)
        runner = self._runner(body)
        last_update = body.get("last_update")
        if last_update and not await self._hold(request, runner, str(last_update)):
            return Response(status_code=204)
        runner = self._runner(body)
        manager = self._manager(request, runner, body)
        mark = runner.queue_value
        looks = not runner.paused and last_update != mark
        job = scheduler.hand_out(self._world, runner, manager, _features(body)) if looks else None
        self._note(runner, manager, body, job)
        if job is None:
            return Response(status_code=204, headers={LAST_UPDATE: mark})
        return JSONResponse(payload(self._world, job), 201)

    async def update_job(self, request: Request) -> Response:
        """200, or 202 while the log is being kept; 400 for an unknown state; 403 once the job is over."""
        body = await json_body(request)
        job = self.job_of(request, str(required(body, "token")))
        output = mapping(body.get("output"))
        checksum = output.get("checksum") or body.get("checksum")
        state = body.get("state")
        if state != "running" and checksum and job.final_updates < self._world.behaviour.final_update_waits:
            job.final_updates += 1
            job.final_since = job.final_since or self._world.clock()
            backoff_s = final_backoff_s(self._world.clock() - job.final_since)
            return plain(202, {"Job-Status": job.status.value, UPDATE_INTERVAL: str(backoff_s)})
        if state not in ("running", "success", "failed"):
            return plain(400, {"Job-Status": job.status.value})
        if state == "running":
            scheduler.touch(self._world, job)
        else:
            if checksum:
                job.trace_checksum_ok = checksum == crc32(job.trace)
            if state == "success":
                scheduler.succeed(self._world, job)
            else:
                exit_code = integer(body, "exit_code") if body.get("exit_code") is not None else None
                scheduler.drop(self._world, job, body.get("failure_reason"), exit_code)
        return plain(200, {"Job-Status": job.status.value})

    async def append_trace(self, request: Request) -> Response:
        """202 where the log now ends where the chunk ends, 416 otherwise; the chunk's own end is ignored."""
        job = self.job_of(request)
        content_range = request.headers.get("content-range")
        if content_range is None:
            return JSONResponse({"error": "400 Missing header Content-Range"}, 400)
        chunk = await request.body()
        self.job_of(request)
        start = _leading_int(content_range)
        expected = start + len(chunk)
        if expected > self._world.behaviour.trace_limit_bytes:
            scheduler.drop(self._world, job, "trace_size_exceeded")
            return message(403)
        if start == len(job.trace):
            self._append(job, chunk)
        size = len(job.trace)
        if size != expected:
            return JSONResponse({"error": "416 Range Not Satisfiable"}, 416, headers={"Range": f"0-{size}"})
        interval = str(self._world.behaviour.trace_update_interval_s)
        headers = {"Job-Status": job.status.value, "Range": f"0-{size}", UPDATE_INTERVAL: interval}
        return plain(202, headers)

    def job_of(self, request: Request, token: str | None = None) -> Job:
        """The job of the path, if the token is its own and it is on a runner; raises `Refused` with 403."""
        given = token or request.query_params.get("token") or request.headers.get("job-token") or ""
        job = self._world.jobs.get(request.path_params["job_id"])
        if job is None or not given or given != job.token:
            raise Refused(message(403))
        if job.status not in ON_RUNNER:
            headers = {"Job-Status": job.status.value}
            raise Refused(message(403, "Job is not processing on runner", headers))
        return job

    def _runner(self, body: dict[str, Any]) -> Runner:
        runner = self._world.runner_by_token(required(body, "token"))
        if runner is None:
            raise Refused(message(403))
        return runner

    def _manager(self, request: Request, runner: Runner, body: dict[str, Any]) -> Manager:
        system_id = str(body.get("system_id") or LEGACY_SYSTEM_ID)
        manager = self._world.manager_of(runner, system_id, client_address(request))
        info = mapping(body.get("info"))
        for name in ("version", "revision", "platform", "architecture", "executor"):
            if info.get(name):
                setattr(manager, name, str(info[name]))
        return manager

    def _note(self, runner: Runner, manager: Manager, body: dict[str, Any], job: Job | None) -> None:
        last_update = body.get("last_update")
        self._world.asks.append(
            Ask(
                runner.id,
                manager.system_id,
                str(last_update) if last_update else None,
                mapping(body.get("info")),
                self._world.clock(),
                job.id if job else None,
            )
        )

    async def _hold(self, request: Request, runner: Runner, last_update: str) -> bool:
        """Wait for news as Workhorse does; False if the asker has gone meanwhile."""
        hold_s = self._world.behaviour.long_poll_s
        if not hold_s or last_update != runner.queue_value:
            return True
        gone = asyncio.ensure_future(_disconnected(request))
        news = asyncio.ensure_future(
            self._world.changes.until(
                lambda: (
                    runner.queue_value != last_update
                    or runner.id not in self._world.runners
                    or self._world.closing
                ),
                hold_s,
            )
        )
        try:
            await asyncio.wait({gone, news}, return_when=asyncio.FIRST_COMPLETED)
            return not gone.done()
        finally:
            for task in (gone, news):
                task.cancel()
            await asyncio.gather(gone, news, return_exceptions=True)

    def _append(self, job: Job, chunk: bytes) -> None:
        if chunk and job.first_trace_at is None:
            job.first_trace_at = self._world.clock()
        job.trace += chunk
        scheduler.touch(self._world, job)
        self._world.changes.ring()


def final_backoff_s(waited_s: float) -> int:
    """When to repeat a final update: half the time waited, in powers of two (Rails `runner/backoff.rb`)."""
    slot = max(0, math.frexp(waited_s)[1] - 2)
    return int(min(FINAL_BACKOFF_MAX_S, 2**slot))


def crc32(data: bytes | bytearray) -> str:
    """The checksum of a log as gitlab-runner's `helpers/trace/buffer.go` writes it."""
    return f"crc32:{zlib.crc32(data):08x}"


def _features(body: dict[str, Any]) -> dict[str, Any]:
    return mapping(mapping(body.get("info")).get("features"))


def _leading_int(content_range: str) -> int:
    """Ruby's `split('-')[0].to_i`: the digits that it begins with, else 0. Python reads no more than 4300."""
    digits = re.match(r"\s*0*([0-9]{0,4000})", content_range.partition("-")[0], re.ASCII)
    return int(digits[1] or 0) if digits else 0


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
