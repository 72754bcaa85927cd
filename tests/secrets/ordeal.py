"""What a service with a canary for every secret goes through: good days, bad peers, wrong configurations."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import httpx
from standardwebhooks import Webhook

from firerunner.fakes.gitlab import FakeGitLab, runner_api
from firerunner.fakes.gitlab.model import Job
from firerunner.fakes.machines import Life
from firerunner.ledger import LIVE_MACHINES
from tests.scene.controllers import Scene
from tests.secrets import canaries
from tests.secrets.lives import dying, failing, lying
from tests.secrets.wrong import wrong_configurations

ECHO = '{"message": "who shows SHOWN is not let in"}'
ASK = r"/api/v4/jobs/request"
CI = """
stages: [test]
one: {stage: test, script: [echo hello]}
sized: {stage: test, script: [echo hello], tags: [firecracker-2cpu-2gb]}
"""
COMMANDS = (
    "config show",
    "config show --json",
    "config check",
    "jobs --all",
    "jobs --all --json",
    "machines --all",
    "machines --all --json",
    "hosts",
    "hosts --json",
    "doctor",
    "doctor --json",
    "gitlab check",
)
CHECKED = 7
"""One of so many wrong configurations is given to the program too: each start takes a second."""
PAGES = (
    "/metrics", "/ready", "/health", "/api/v1/openapi.json", "/api/v1/jobs?which=all",
    "/api/v1/machines?which=all", "/api/v1/hosts", "/api/v1/pools", "/api/v1/journal?limit=1000",
)  # fmt: skip


def describe(described: dict[str, Any], gitlab: FakeGitLab, folder: Path) -> None:
    """A canary in every place where the configuration has a secret: some in clear, some in files, one by the
    environment (`ENVIRONMENT`)."""
    gitlab.runner(described["pools"][0]["runner_token"]).token = canaries.RUNNER_TOKEN
    gitlab.world.api_tokens[canaries.API_TOKEN] = frozenset({"api"})
    gitlab.world.administrators.add(canaries.API_TOKEN)
    described["gitlab"] |= {
        "api_token_file": _file(folder, "api-token", canaries.API_TOKEN),
        "webhook_secret": canaries.WEBHOOK_SECRET,
        "webhook_secret_old_file": _file(folder, "old-secret", canaries.WEBHOOK_SECRET_OLD),
        "webhook_signing_token": canaries.SIGNING_TOKEN,
        "webhook_signing_token_old_file": _file(folder, "old-signing", canaries.SIGNING_TOKEN_OLD),
    }
    described["api"] = {"operate_token": canaries.OPERATE_TOKEN}
    described["hosts"][0]["token"] = canaries.HOST_TOKEN
    described["proxy"] = {"url": f"http://someone:{canaries.PROXY_PASSWORD}@127.0.0.1:9", "no_proxy": []}
    described["log"] = {"level": "debug"}
    small = described["pools"][0]
    small["runner_token_file"] = _file(folder, "runner-token", canaries.RUNNER_TOKEN)
    del small["runner_token"]
    small["runner_config_file"] = _file(
        folder, "runner.toml", f'environment = ["REGISTRY={canaries.RUNNER_CONFIG}"]\n'
    )
    small["proxy"] = {"url": f"http://someone:{canaries.POOL_PROXY_PASSWORD}@proxy.test:3128"}
    small["docker_daemon"] = {
        "proxies": {"http-proxy": f"http://someone:{canaries.DOCKER_PROXY}@proxy.test:3128"}
    }
    template = {"image": small["image"], "limit": 2, "egress": ["gitlab"], "memory_mib": 1024}
    described["pools"].append({"name": "sized", "sized": {"look_every": "5s", "unused": "1h"}} | template)
    # A second GitLab, which only the proxy could reach, and the proxy is not there.
    described["gitlab"] = [
        {"name": "gitlab"} | described["gitlab"],
        {"name": "behind", "url": "http://gitlab.behind.test"},
    ]
    for pool in described["pools"]:
        pool["gitlab"] = "gitlab"
    described["pools"].append(
        template | {"name": "behind", "gitlab": "behind", "runner_token": f"{canaries.RUNNER_TOKEN}-behind"}
    )


ENVIRONMENT = {"FIRERUNNER_API__READ_TOKEN": canaries.READ_TOKEN}


def _file(folder: Path, name: str, text: str) -> str:
    path = folder / "operator" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text + "\n")
    return str(path)


@contextlib.contextmanager
def secret_payloads() -> Iterator[None]:
    """Every job of the fake GitLab has canaries in its answer."""
    plain = runner_api.payload

    def payload(world: Any, job: Job) -> dict[str, Any]:
        said = plain(world, job)
        masked = {"public": False, "file": False, "masked": True, "raw": False}
        said["variables"].append({"key": "DEPLOY_KEY", "value": canaries.VARIABLE, **masked})
        said["dependencies"].append({"id": 4711, "name": "before", "token": canaries.DEPENDENCY_TOKEN})
        said["credentials"].append(
            {"type": "registry", "url": "r.test", "username": "x", "password": canaries.REGISTRY_PASSWORD}
        )
        return said

    runner_api.payload = payload
    try:
        yield
    finally:
        runner_api.payload = plain


class Ordeal:
    """Goes through it with one scene; `said` collects what the service and the program answered."""

    def __init__(self, it: Scene) -> None:
        self.it = it
        self.said: list[tuple[str, bytes]] = []
        self.config = it.controllers[0].config.read_text()

    async def good_day(self) -> None:
        """Jobs that end well, one of them by a sized tag and so with the API token."""
        jobs = await self.it.run_jobs(2)
        await self._hook(canaries.WEBHOOK_SECRET, canaries.SIGNING_TOKEN, 200)
        await self._hook(canaries.WEBHOOK_SECRET_OLD, canaries.SIGNING_TOKEN_OLD, 200)
        await self.it.ended(jobs)
        sized = self.it.gitlab.job("sized", jobs[0].pipeline)
        await self.it.until(lambda: sized.status == "success")

    async def bad_day(self) -> None:
        """Jobs that fail, a machine that dies, guests that lie, strangers with tokens of ours."""
        await self._one(failing)
        await self._one(dying)
        await self._one(lying)
        for wrong in (canaries.RUNNER_TOKEN, canaries.API_TOKEN, canaries.WEBHOOK_SECRET[:-1] + "x"):
            await self._hook(wrong, canaries.SIGNING_TOKEN, 401)
            await self._hook(canaries.WEBHOOK_SECRET, canaries.signing("another"), 401)
            await self.get("/api/v1/jobs", {"Authorization": f"Bearer {wrong}"})
            await self.get(f"/api/v1/jobs?token={wrong}", {"Authorization": f"Basic {wrong}"})

    async def _one(self, life: Life) -> None:
        self.it.vmm.life, before = life, self.it.vmm.life
        try:
            (job,) = await self.it.run_jobs(1)
            await self.it.until(lambda: job.finished, 90.0)
        finally:
            self.it.vmm.life = before

    async def echoes(self) -> None:
        """GitLab and Flintlock answer with errors that repeat what they were shown."""
        it = self.it
        for status in (500, 400, 403):
            rule = it.gitlab.misbehave(ASK, method="POST", status=status, body=ECHO, times=2)
            await it.until(lambda rule=rule: rule.used, 90.0)
            await self.get("/ready")
        rest = it.gitlab.misbehave(r"/api/v4/(projects|user|runners|groups|version).*", status=403, body=ECHO)
        await self._hook(canaries.WEBHOOK_SECRET, canaries.SIGNING_TOKEN, 200)
        await it.run_jobs(1)
        await self.commands("gitlab check", "doctor")
        await it.until(lambda: rest.used)
        rest.times = 0
        shown = f"who shows {canaries.HOST_TOKEN} is not let in"
        host = it.flintlock.misbehave("", times=6, code=grpc.StatusCode.UNAUTHENTICATED, text=shown)
        await it.until(lambda: host.used >= 3)
        await self.commands("hosts", "doctor")
        await self.get("/ready")
        await self.get("/api/v1/hosts", {"Authorization": f"Bearer {canaries.READ_TOKEN}"})

    async def echoed_job_tokens(self) -> None:
        """The same for calls about a job."""
        (job,) = await self.it.run_jobs(1)
        calls = rf"/api/v4/jobs/{job.id}(/trace)?"
        self.it.gitlab.misbehave(calls, status=500, body=ECHO, times=2)
        self.it.gitlab.misbehave(calls, status=409, body=ECHO, times=2)
        await self.it.until(lambda: job.finished, 150.0)

    async def wrong_configurations(self) -> None:
        """Each is refused by the running service and by `config check`."""
        controller = self.it.controllers[0]
        for number, wrong in enumerate(wrong_configurations(self.config)):
            controller.config.write_text(wrong)
            count = controller.said().count("the new settings are not taken")
            controller.signal(signal.SIGHUP)
            await self.it.until(
                lambda count=count: controller.said().count("the new settings are not taken") > count, 10.0
            )
            if number % CHECKED == 0:
                assert await self.commands("config check") == [2], wrong
        controller.config.write_text(self.config)
        controller.signal(signal.SIGHUP)
        await self.it.until(lambda: controller.said().count("settings read anew"))

    async def crash(self) -> None:
        """With a core, if it leaves one; the service starts again."""
        controller = self.it.controllers[0]
        assert controller.process is not None
        controller.signal(signal.SIGSEGV)
        controller.process.wait()
        controller.start()
        await controller.ready()
        await self.it.until(self.it.leader)

    async def read_all(self) -> None:
        """What is there for whoever may read."""
        for token in (canaries.READ_TOKEN, canaries.OPERATE_TOKEN):
            for page in PAGES:
                await self.get(page, {"Authorization": f"Bearer {token}"})
        await self.commands(*COMMANDS)
        for machine in await self.it.ledger.machines(LIVE_MACHINES):
            await self.commands(f"logs {machine.machine_id}")

    async def get(self, path: str, headers: dict[str, str] | None = None) -> None:
        """Keep the answer, headers and all."""
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.get(f"http://127.0.0.1:{self.it.controllers[0].web}{path}", headers=headers)
        self.said.append((path, str(answer.headers).encode() + answer.content))

    async def _hook(self, secret: str, signer: str, status: int) -> None:
        hook = {"object_kind": "build", "build_status": "pending", "project_id": self.it.project.id}
        body, now, name = json.dumps(hook), datetime.now(UTC), uuid4().hex
        headers = {
            "X-Gitlab-Token": secret,
            "webhook-id": name,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(signer).sign(name, now, body),
        }
        async with httpx.AsyncClient(trust_env=False) as http:
            url = f"http://127.0.0.1:{self.it.controllers[0].web}/webhook"
            answer = await http.post(url, content=body, headers=headers)
        assert answer.status_code in {status, 429}, answer.text
        self.said.append(("/webhook", answer.content))

    async def commands(self, *commands: str) -> list[int]:
        """Run them as an operator does, without what the service has in its environment."""
        statuses = []
        for command in commands:
            words = [*command.split(), "--config", str(self.it.controllers[0].config)]
            done = await asyncio.to_thread(  # the GitLab that it asks is in our own process
                subprocess.run,
                [sys.executable, "-m", "firerunner", *words],
                capture_output=True,
                check=False,
                timeout=120,
            )
            assert b"Traceback" not in done.stderr, done.stderr.decode()
            self.said.append((f"firerunner {command}", done.stdout + done.stderr))
            statuses.append(done.returncode)
        return statuses

    async def rows(self) -> bytes:
        """The journal, and what the ledger shows of jobs and machines."""
        rows: list[Any] = []
        while more := await self.it.ledger.journal(after=rows[-1].seq if rows else 0, limit=1000):
            rows += more
        return "\n".join(
            json.dumps([row.subject, row.event, row.detail], default=str) for row in rows
        ).encode()
