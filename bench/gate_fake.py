"""`python -m bench.gate_fake`: the fake GitLab with running jobs; prints its URL as a line of JSON.

Twice as many jobs as there are machines: the first half for the gate's guests, the second to be asked for
directly; and one that has an artifact, on which all depend. Ends with standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from bench.gate_parts import DEPENDENCY, DEPENDENCY_ID, DOWNLOAD_BYTES, MACHINES, job_token
from firerunner.fakes.gitlab import FakeGitLab, scheduler
from firerunner.fakes.gitlab.ci_yaml import CiFile, JobSpec
from firerunner.fakes.gitlab.model import Artifact, JobStatus, Project


def give_jobs(gitlab: FakeGitLab, folder: Path) -> None:
    """Jobs 1 to 2 x MACHINES and the one with the artifact run, with the tokens that the bench knows."""
    world = gitlab.world
    project = world.projects[7] = Project(7, "grp/app", folder, world.clock())
    count = 2 * MACHINES + 1
    pipeline = scheduler.create_pipeline(
        world,
        project,
        CiFile(("test",), {}, tuple(JobSpec(f"job-{n}", "test", ("true",)) for n in range(count))),
        pipeline_id=1,
        ref="main",
        tag=False,
        sha="0" * 40,
        before_sha="0" * 40,
        message="m",
        variables={},
    )
    world.jobs.clear()
    for number, job in enumerate(pipeline.jobs):
        job.id, job.token, job.status = number + 1, job_token(number), JobStatus.RUNNING
        job.started_at = world.clock()
    job.id, job.token = DEPENDENCY_ID, str(DEPENDENCY["token"])
    path = folder / "artifact"
    path.write_bytes(bytes(DOWNLOAD_BYTES))
    job.artifacts["archive"] = Artifact("archive", "zip", "artifacts.zip", path, DOWNLOAD_BYTES, None)
    world.jobs |= {job.id: job for job in pipeline.jobs}


async def main() -> None:
    """Serve until standard input ends."""
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as folder:
        async with FakeGitLab(Path(folder) / "gitlab") as gitlab:
            give_jobs(gitlab, Path(folder))
            print(json.dumps({"url": gitlab.url}), flush=True)
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
