"""The service is killed in the middle of the demo and started again: no job is lost, nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from firerunner.demo.play import Play, Result
from firerunner.demo.stage import Stage, cache_dir, set_up
from firerunner.demo.verdict import complaints
from firerunner.images import Image

pytestmark = [pytest.mark.vm, pytest.mark.anyio, pytest.mark.timeout(900)]
SLOW = pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it takes minutes")

STORE = cache_dir() / "images"


async def killed_when(stage: Stage, seen: bytes, job_name: str) -> None:
    """SIGKILL the service as soon as the job's trace holds `seen`."""
    await stage.gitlab.wait_for(lambda: seen in _trace(stage, job_name), 300)
    assert stage.service.pid is not None
    os.kill(stage.service.pid, signal.SIGKILL)


def _trace(stage: Stage, job_name: str) -> bytes:
    return b"".join(bytes(job.trace) for job in stage.gitlab.jobs() if job.name == job_name)


async def played(image: Image, restart_after_s: float, seen: bytes, job_name: str) -> Result:
    async with set_up(STORE, image.manifest.digest, restart_after_s=restart_after_s) as stage:
        killing = asyncio.create_task(killed_when(stage, seen, job_name))
        result = await Play(stage, lambda rows: None).run()
        await killing
        assert stage.service.restarts >= 1
        return result


def unexcused(result: Result, restart_after_s: float) -> list[str]:
    """What is wrong beyond times that a service which is not there cannot keep."""
    said = complaints(result.outcomes, result.observed, result.nonce)
    return [sentence for sentence in said if restart_after_s < 10 or " took " not in sentence]


@pytest.mark.parametrize(
    ("restart_after_s", "seen", "job_name"),
    [
        (0.0, b"nonce=", "build"),
        (0.0, b"working, second 3", "orphan"),
        pytest.param(60.0, b"still here after 1 s", "slow", marks=SLOW),
    ],
    ids=["at once while build runs", "at once after the VM's death", "after a minute"],
)
async def test_every_job_ends_as_it_should(
    image: Image, restart_after_s: float, seen: bytes, job_name: str
) -> None:
    result = await played(image, restart_after_s, seen, job_name)

    assert unexcused(result, restart_after_s) == []
    assert result.leftovers.none
