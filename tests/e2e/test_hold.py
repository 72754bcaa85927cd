"""A job fails in a real machine, and an operator looks into it with `firerunner shell`, before it goes."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.images import Image, Store
from tests.e2e.lab import lab

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

RUNNER = os.environ.get("FIRERUNNER_GITLAB_RUNNER")
TOKEN = "canary-operate-token-0123456789abcdef"

CI = """
stages: [test]
broken:
  stage: test
  script:
    - echo "left behind" > /builds/left
    - exit 3
"""


@pytest.fixture
async def image() -> Image:
    given = Path(RUNNER) if RUNNER else None
    return await build(demo_recipe(given), Store(cache_dir() / "images"), given)


async def firerunner(*arguments: str, said: str = "") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "firerunner", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, told = await process.communicate(said.encode())
    return process.returncode or 0, out.decode(), told.decode()


async def test_a_failed_jobs_machine_is_looked_into_and_released(image: Image) -> None:
    pool = {"hold": {"time": "20m"}}
    settings = {"api": {"operate_token": TOKEN}}
    files = {".gitlab-ci.yml": CI}
    async with lab(cache_dir() / "images", image.manifest.digest, files, pool=pool, settings=settings) as it:
        job = await it.run("broken")
        assert job.status == "failed", it.trace(job)
        config = ("--config", str(it.config))
        held: list[dict[str, str]] = []
        async with asyncio.timeout(120):
            while not held:
                held = json.loads((await firerunner("hold", "list", "--json", *config))[1])
        machine = held[0]["machine_id"]
        lines = "cat left\ncd /etc\npwd; hostname; echo to-error >&2\nexit 4\n"
        code, printed, warned = await firerunner("shell", machine, *config, said=lines)
        released = await firerunner("hold", "release", machine, *config)
        async with asyncio.timeout(60):
            while machine in (await firerunner("machines", "--json", *config))[1]:
                pass
        _, rows, _ = await firerunner("events", machine, "--json", *config)

    assert (code, printed.split("\n")) == (4, ["left behind", "/etc", machine, "to-error", ""])
    assert "holds the variables, files and credentials of job" in warned
    assert released[0] == 0
    events = [json.loads(row)["event"] for row in rows.splitlines()]
    assert events.count("look") == 4
    assert {"held", "released"} <= set(events)
