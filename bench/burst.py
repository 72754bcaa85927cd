"""burst: 1,000 jobs pending and 100 hosts; seconds until the last create is answered, and CPU for each job.

The service is beside a bare loop that makes the same asks and creates with the same clients and nothing else:
no room, no ledger, no gate. Both are processes of their own and meet a world of their own (`burst_world`),
whose latencies are stated there. Guests never boot: what is measured ends with the create.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.rows import Goal, Row, measured
from firerunner.app import open_ledger
from firerunner.building import build
from firerunner.cli.output import errors, reported
from firerunner.demo.hosts import PUBLISHED
from firerunner.demo.stage import cache_dir, demo_recipe, free_port
from firerunner.demo.supervisor import Supervisor
from firerunner.images import Image, Store
from firerunner.ledger import LIVE_MACHINES, MachineState
from firerunner.settings import load_settings

JOBS, POOLS, HOSTS = 1000, 10, 100
ROUNDS = 5
MEMORY_MIB, DISK_MIB = 1024, 1024
GIVE_UP_S = 600.0
TIMES_AT_MOST, CPU_MS_AT_MOST = 1.5, 10.0


@dataclass(frozen=True, slots=True)
class Burst:
    """One way through it."""

    seconds: float
    cpu_s: float


async def measure(rounds: int = ROUNDS) -> list[Row]:
    """Alternate the two, `rounds` times each."""
    with reported() as progress:
        store = Store(cache_dir() / "images")
        image = await build(demo_recipe(None), store, progress=progress)
    store.note_published(image, PUBLISHED)
    loops, services = [], []
    for turn in range(1, rounds + 1):
        errors.print(f"burst: round {turn} of {rounds}")
        async with world() as it:
            loops.append(await _bare(it, image))
        async with world() as it:
            services.append(await _service(it, image))
    return rows(services, loops)


def rows(services: Sequence[Burst], loops: Sequence[Burst]) -> list[Row]:
    """The table, out of as many bursts of each."""
    ours, bare = _cpu_ms(services), _cpu_ms(loops)
    return [
        measured(
            f"{JOBS} jobs, {HOSTS} hosts: to the last create",
            [each.seconds for each in services],
            [each.seconds for each in loops],
            target=Goal("ratio", "<=", TIMES_AT_MOST),
        ),
        measured("  controller CPU for each job", ours, bare, unit="ms"),
        measured(
            "  more than the bare loop's",
            [mine - its for mine, its in zip(ours, bare, strict=True)],
            unit="ms",
            target=Goal("value", "<=", CPU_MS_AT_MOST),
        ),
    ]


def _cpu_ms(bursts: Sequence[Burst]) -> list[float]:
    return [1000 * each.cpu_s / JOBS for each in bursts]


class World:
    """GitLab and the hosts, in a process of their own."""

    def __init__(self, process: asyncio.subprocess.Process, facts: dict[str, Any]) -> None:
        self._process = process
        self.gitlab: str = facts["gitlab"]
        self.tokens: list[str] = facts["tokens"]
        self.hosts: list[str] = facts["hosts"]

    async def say(self, word: str) -> float:
        """`go`: the jobs are pending from the returned time on."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n".encode())
        return float(await self._process.stdout.readline())


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Fresh each time."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.burst_world", str(JOBS), str(POOLS), str(HOSTS)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield World(process, json.loads(await process.stdout.readline()))
    finally:
        assert process.stdin is not None
        process.stdin.close()  # it ends by itself, and takes its directory with it
        await process.wait()


async def _bare(it: World, image: Image) -> Burst:
    """In a process of its own, so that its CPU can be told."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.burst_bare", str(JOBS), image.manifest.digest),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    facts = {"gitlab": it.gitlab, "tokens": it.tokens, "hosts": it.hosts}
    process.stdin.write(f"{json.dumps(facts)}\n".encode())
    await process.stdout.readline()  # it is ready
    before = cpu_s(process.pid)
    began = await it.say("go")
    process.stdin.write(b"go\n")
    async with asyncio.timeout(GIVE_UP_S):
        ended = float(await process.stdout.readline())
    spent = cpu_s(process.pid) - before
    process.stdin.close()
    await process.wait()
    return Burst(ended - began, spent)


async def _service(it: World, image: Image) -> Burst:
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as folder:
        config = _config(Path(folder), it, image)
        settings = load_settings(config)
        service = Supervisor(config, Path(folder) / "service.log", restart_after_s=GIVE_UP_S)
        service.start()
        try:
            await service.until_healthy(f"http://{settings.listen.web}/health")
            await asyncio.sleep(3.0)  # it has asked for the first time
            pid = service.pid
            assert pid is not None
            before = cpu_s(pid)
            began = await it.say("go")
            async with open_ledger(settings) as ledger, asyncio.timeout(GIVE_UP_S):
                while len(await ledger.machines(frozenset({MachineState.BOOTING}))) < JOBS:
                    await asyncio.sleep(1.0)
                spent = cpu_s(pid) - before
                made = await ledger.machines(LIVE_MACHINES)
            ended = max(machine.vmm_started_at or 0.0 for machine in made)
            return Burst(ended - began, spent)
        finally:
            if service.pid is not None:
                os.kill(service.pid, signal.SIGKILL)


def _config(folder: Path, it: World, image: Image) -> Path:
    pools = [
        {
            "name": f"pool-{number}",
            "runner_token": token,
            "image": image.manifest.digest,
            "memory_mib": MEMORY_MIB,
            "disk_mib": DISK_MIB,
            "limit": JOBS,
            "boot_timeout": "10m",
            "check_interval": "1s",
        }
        for number, token in enumerate(it.tokens)
    ]
    hosts = [
        {
            "name": f"kvm-{number}",
            "driver": "flintlock",
            "address": address,
            "insecure": True,
            "gate_url": "http://10.0.2.100:8181",
            "vcpu": 16,
            "memory_mib": 32768,
            "disk_mib": 65536,
        }
        for number, address in enumerate(it.hosts)
    ]
    described = {
        "gitlab": {"url": it.gitlab},
        "state_dir": str(folder / "state"),
        "image_dir": str(cache_dir() / "images"),
        "listen": {"web": f"127.0.0.1:{free_port()}", "gate": f"127.0.0.1:{free_port()}"},
        "webhook": {"insecure": True},
        "pools": pools,
        "hosts": hosts,
        "log": {"level": "warning"},
    }
    config = folder / "config.yaml"
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(described))
    return config


def cpu_s(pid: int) -> float:
    """CPU time of a process so far, in seconds (proc(5): utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
