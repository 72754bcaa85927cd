"""The process that keepers are forked from is killed again and again while the demo runs: no job notices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from firerunner.demo.play import Play
from firerunner.demo.stage import cache_dir, set_up
from firerunner.demo.verdict import complaints
from firerunner.images import Image
from firerunner.machines.qemu import processes

pytestmark = [pytest.mark.vm, pytest.mark.anyio, pytest.mark.timeout(600)]

EVERY_S = 0.7


async def killing(state_dir: Path, killed: set[int]) -> None:
    """SIGKILL whichever there is, for ever."""
    name = processes.fork_server_name(state_dir).encode()
    while True:
        await asyncio.sleep(EVERY_S)
        for each in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if each.name.isdigit() and name in (each / "cmdline").read_bytes().split(b"\0"):
                    os.kill(int(each.name), signal.SIGKILL)
                    killed.add(int(each.name))


async def test_every_job_ends_as_it_should(image: Image) -> None:
    killed = set[int]()
    async with set_up(cache_dir() / "images", image.manifest.digest) as stage:
        killer = asyncio.create_task(killing(stage.settings.state_dir, killed))
        result = await Play(stage, lambda rows: None).run()
        killer.cancel()
        restarts = stage.service.restarts

    assert len(killed) >= 3
    assert restarts == 0
    assert complaints(result.outcomes, result.observed, result.nonce) == []
    assert result.leftovers.none
