"""hook: Job Hooks a second, beside the same server answering 200 with no work, and the asks that they make.

`firerunner serve` is a process of its own and so is its floor, which is the service's own web application
with nothing behind `/webhook` (`hook_floor`). Both are sent the same hooks of one project by the same
client, in turn. The pool asks by itself once in five minutes only, and GitLab has no job: every other ask
is a hook's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import yaml

from bench import load
from bench.gate import process
from bench.load import Request
from bench.rows import Goal, Row, measured
from firerunner.building import build
from firerunner.cli.output import errors, reported
from firerunner.demo.hosts import PUBLISHED
from firerunner.demo.stage import cache_dir, demo_recipe, free_port
from firerunner.demo.supervisor import Supervisor
from firerunner.fakes.flintlock import FakeFlintlock
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.images import Store

HOOKS, ROUNDS, CONNECTIONS = 4_000, 9, 16
CROWD = 10_000
AT_LEAST, ASKS_AT_MOST = 0.6, 20
SECRET = "secret-of-the-hook-that-is-long-enough"
LAST_S = 3.0
"""Longer than any pause between two wakes of a project."""


async def measure() -> list[Row]:
    """Both in turn, `ROUNDS` times each; a round before them is not counted."""
    ours, bare, took, bare_took = list[float](), list[float](), list[float](), list[float]()
    async with _service() as (url, gitlab), process("bench.hook_floor") as floor:
        await _round(url)
        await _round(floor.url)
        for turn in range(1, ROUNDS + 1):
            errors.print(f"hook: round {turn} of {ROUNDS}")
            for there, rates, each_took in ((floor.url, bare, bare_took), (url, ours, took)):
                a_second, each = await _round(there)
                rates.append(a_second)
                each_took.extend(each)
        await asyncio.sleep(LAST_S)
        asked = len(gitlab.calls("POST", "/api/v4/jobs/request"))
        errors.print(f"hook: {CROWD:,} of one project")
        await _round(url, CROWD)
        await asyncio.sleep(LAST_S)
        asks = len(gitlab.calls("POST", "/api/v4/jobs/request")) - asked
    if not asks:
        raise RuntimeError(f"{CROWD:,} hooks made no ask at all: what is measured does not work")
    return [
        measured("hooks a second", ours, bare, unit="1/s", target=Goal("ratio", ">=", AT_LEAST)),
        Row("  p99 of one", load.quantile(took, 0.99), load.quantile(bare_took, 0.99)),
        Row(
            f"asks made by {CROWD:,} hooks of one project",
            asks,
            unit="",
            target=Goal("value", "<=", ASKS_AT_MOST),
        ),
    ]


async def _round(url: str, count: int = HOOKS) -> tuple[float, list[float]]:
    return await load.rate(url, lambda: _hooks(count), connections=CONNECTIONS, expect=200)


def _hooks(count: int) -> Iterator[Request]:
    headers = {
        "Content-Type": "application/json",
        "X-Gitlab-Event": "Job Hook",
        "X-Gitlab-Token": SECRET,
        "User-Agent": "GitLab/18.5.0",
    }
    for number in range(count):
        yield Request("POST", "/webhook", headers, _body(number))


def _body(number: int) -> bytes:
    """What GitLab sends (lib/gitlab/data_builder/build.rb), shortened in its texts only."""
    person = {"id": 1, "name": "Ada", "username": "ada", "avatar_url": None, "email": "[REDACTED]"}
    commit = {"id": 9, "sha": "a" * 40, "message": "Text " * 20, "author_name": "Ada", "status": "running"}
    described = {
        "object_kind": "build",
        "ref": "main",
        "tag": False,
        "before_sha": "0" * 40,
        "sha": "a" * 40,
        "build_id": number,
        "build_name": "test",
        "build_stage": "test",
        "build_status": "pending",
        "build_created_at": "2026-01-01 00:00:00 UTC",
        "build_started_at": None,
        "build_duration": None,
        "build_allow_failure": False,
        "pipeline_id": 9,
        "project_id": 7,
        "project_name": "grp / app",
        "user": person,
        "commit": commit,
        "repository": {
            "name": "app",
            "homepage": "https://gitlab.example.com/grp/app",
            "visibility_level": 0,
        },
        "project": {"id": 7, "name": "app", "path_with_namespace": "grp/app", "default_branch": "main"},
        "environment": None,
    }
    return json.dumps(described).encode()


@contextlib.asynccontextmanager
async def _service() -> AsyncIterator[tuple[str, FakeGitLab]]:
    """`firerunner serve` between a GitLab and a host; both have next to nothing to do."""
    with reported() as progress:
        store = Store(cache_dir() / "images")
        image = await build(demo_recipe(None), store, progress=progress)
    store.note_published(image, PUBLISHED)
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="firerunner-bench-")))
        gitlab = await stack.enter_async_context(FakeGitLab(folder / "gitlab"))
        host = await stack.enter_async_context(FakeFlintlock())
        web = f"127.0.0.1:{free_port()}"
        described = {
            "gitlab": {"url": gitlab.url, "webhook_secret": SECRET},
            "state_dir": str(folder / "state"),
            "image_dir": str(cache_dir() / "images"),
            "listen": {"web": web, "gate": f"127.0.0.1:{free_port()}"},
            "pools": [
                {
                    "name": "pool",
                    "runner_token": gitlab.add_runner(["bench"], run_untagged=False),
                    "image": image.manifest.digest,
                    "check_interval": "5m",
                }
            ],
            "hosts": [
                {
                    "name": "kvm",
                    "driver": "flintlock",
                    "address": host.address,
                    "insecure": True,
                    "gate_url": "http://10.0.2.100:8181",
                    "vcpu": 16,
                    "memory_mib": 32768,
                    "disk_mib": 65536,
                }
            ],
            "log": {"level": "warning"},
        }
        config = folder / "config.yaml"
        config.touch(mode=0o600)
        config.write_text(yaml.safe_dump(described))
        service = Supervisor(config, folder / "service.log", restart_after_s=600.0)
        service.start()
        try:
            await service.until_healthy(f"http://{web}/health")
            while not gitlab.calls("POST", "/api/v4/jobs/request"):
                await asyncio.sleep(0.1)
            yield f"http://{web}", gitlab
        finally:
            await service.finish()
