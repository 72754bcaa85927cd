"""`python -m bench.burst_world JOBS POOLS HOSTS`: GitLab and the hosts of the bench, with stated latencies.

Prints its addresses as one line of JSON; at `go` on standard input, the jobs become pending, and the time
(Unix seconds) is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path

from firerunner.demo.hosts import PUBLISHED
from firerunner.fakes.flintlock import FakeFlintlock
from firerunner.fakes.gitlab import FakeGitLab

ASK_S = 0.1
"""What GitLab takes for each ask."""
PULL_S = 0.3
"""What a host takes for each create, one after another, as Flintlock's one worker does."""


async def main(jobs: int, pools: int, hosts: int) -> None:
    """Serve until standard input ends."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="firerunner-bench-")))
        gitlab = await stack.enter_async_context(FakeGitLab(folder / "gitlab"))
        gitlab.misbehave(r"/api/v4/jobs/request", delay_s=ASK_S)
        tokens = [gitlab.add_runner([f"pool-{number}"], run_untagged=False) for number in range(pools)]
        flintlocks = [FakeFlintlock() for _ in range(hosts)]
        for each in flintlocks:
            await stack.enter_async_context(each)
            each.pull_s[PUBLISHED.root] = PULL_S
        project = await gitlab.add_project("bench/burst", {".gitlab-ci.yml": _pipeline(jobs, pools)})
        facts = {"gitlab": gitlab.url, "tokens": tokens, "hosts": [each.address for each in flintlocks]}
        print(json.dumps(facts), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            began = time.time()
            await gitlab.run_pipeline(project)
            print(began, flush=True)


def _pipeline(jobs: int, pools: int) -> str:
    lines = ["stages: [test]"]
    for number in range(jobs):
        lines += [f"job-{number}:", "  stage: test", f"  tags: [pool-{number % pools}]", "  script: [echo]"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
