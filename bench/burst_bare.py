"""`python -m bench.burst_bare JOBS IMAGE`: the floor of the bench: asks and creates, and nothing else.

Each pool asks for one job after another; each job's machine is made at once on the next host, by the driver
that the service uses. Facts come as one line of JSON on standard input, then `go`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time

from firerunner.control.ids import new_machine_id
from firerunner.demo.stage import cache_dir
from firerunner.gitlab import AskedJob, RunnerClient, new_http
from firerunner.images import Store
from firerunner.machines.flintlock.channel import Endpoint
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.driver import FlintlockDriver
from firerunner.machines.flintlock.request import Place
from firerunner.machines.spec import MachineSpec, Resources, Started

SIZE = Resources(1, 1024, 1024)


async def main(jobs: int, digest: str) -> None:
    """Print the time at which the last create was answered."""
    facts = json.loads(sys.stdin.readline())
    image = Store(cache_dir() / "images").resolve(digest)
    place = Place("firerunner", "http://10.0.2.100:8181")
    drivers = [FlintlockDriver(FlintlockClient(Endpoint(host, None)), place, SIZE) for host in facts["hosts"]]
    turns = itertools.cycle(drivers)
    creates: list[asyncio.Task[Started]] = []
    async with new_http() as http:
        asks = RunnerClient(facts["gitlab"], http)

        async def serve(token: str) -> None:
            while len(creates) < jobs:
                machine_id = new_machine_id()
                if not isinstance(await asks.ask(token, machine_id, image.manifest.info or {}), AskedJob):
                    await asyncio.sleep(0.1)
                    continue
                spec = MachineSpec(machine_id, SIZE, image.files, "not-used:1", "c" * 20)
                creates.append(asyncio.create_task(next(turns).create(spec)))

        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(serve(token) for token in facts["tokens"]))
        await asyncio.gather(*creates)
    print(time.time(), flush=True)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
