"""pickup: seconds from `pending` in GitLab to the job's first output, beside a bare QEMU.

Both run the same job from the same fake GitLab with the same image, in turn, cold. The value of
FireRunner is split by what the ledger's journal says about each state.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from statistics import median

from bench.bare import bare_machine
from bench.rows import Row
from firerunner.building import build
from firerunner.cli.output import errors, reported
from firerunner.demo.stage import GITLAB_NAME, Stage, cache_dir, demo_recipe, set_up
from firerunner.fakes.gitlab.model import Job, Project
from firerunner.images import Image, Store
from firerunner.ledger import JobState
from firerunner.machines.qemu import QemuDriver
from firerunner.machines.qemu.tsc import measure_tsc_khz

ROUNDS = 5
ADDED_AT_MOST_S = 0.5

CI = """
hello:
  tags: [{tag}]
  variables: {{GIT_STRATEGY: none}}
  script: [echo hello]
"""

STEPS = (
    ("taken", "pending to taken"),
    ("creating", "taken to creating"),
    ("booting", "creating to booting (driver)"),
    ("waiting", "booting to waiting (guest boots)"),
    ("busy", "waiting to busy (runner asks, gate delivers)"),
    ("output", "busy to first output (runner starts the job)"),
)


async def measure() -> list[Row]:
    """Alternate the two, `ROUNDS` times each."""
    store = cache_dir() / "images"
    with reported() as progress:
        image = await build(demo_recipe(None), Store(store), progress=progress)
    khz, accelerator = measure_tsc_khz(), await _accelerator(image)
    ours: list[float] = []
    floor: list[float] = []
    split: dict[str, list[float]] = {state: [] for state, _ in STEPS}
    async with set_up(store, image.manifest.digest) as stage:
        project = await _project(stage, "small")
        bare_project = await _project(stage, "floor", hook=False)
        token = stage.gitlab.add_runner(["floor"], run_untagged=False)
        for turn in range(ROUNDS + 1):
            errors.print(f"pickup: round {turn} of {ROUNDS}{' (warming up)' if turn == 0 else ''}")
            job = await _run(stage, project)
            bare_s = await _bare(stage, bare_project, image, token, khz, accelerator)
            if turn == 0:
                continue
            ours.append(_pending_to_output_s(job))
            floor.append(bare_s)
            for state, seconds in (await _split(stage, job)).items():
                split[state].append(seconds)
    value, bare = median(ours), median(floor)
    added = value - bare
    return [
        Row("pending to first output, cold", value, bare, value / bare),
        Row(
            "added by FireRunner, cold",
            added,
            None,
            None,
            f"at most {ADDED_AT_MOST_S} s",
            added <= ADDED_AT_MOST_S,
        ),
        *(Row(f"  {text}", median(split[state])) for state, text in STEPS),
    ]


async def _project(stage: Stage, tag: str, *, hook: bool = True) -> Project:
    project = await stage.gitlab.add_project(f"bench/{tag}", {".gitlab-ci.yml": CI.format(tag=tag)})
    if hook:
        secret = stage.settings.gitlab[0].webhook_secret
        stage.gitlab.add_hook(
            project,
            f"http://{stage.settings.listen.web}/webhook",
            token=secret.get_secret_value() if secret else None,
        )
    return project


async def _run(stage: Stage, project: Project) -> Job:
    job = stage.gitlab.job("hello", await stage.gitlab.run_pipeline(project))
    await stage.gitlab.wait_for_job(job, "success", timeout_s=120)

    async def is_gone() -> bool:
        record = await stage.ledger.job(job.id)
        return record is None or record.state in {JobState.ENDED, JobState.RETURNED}

    while not await is_gone() or any(m.job_id == job.id for m in await stage.ledger.machines()):
        await asyncio.sleep(0.2)
    return job


async def _accelerator(image: Image) -> str:
    """The one that FireRunner itself takes here."""
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as directory:
        driver = QemuDriver(Path(directory))
        try:
            found = await driver.accelerator(image.files)
        finally:
            await driver.aclose()
    return found.kind if found else "tcg"


async def _bare(
    stage: Stage, project: Project, image: Image, token: str, khz: int, accelerator: str
) -> float:
    port = int(stage.gitlab.url.rpartition(":")[2])
    job = stage.gitlab.job("hello", await stage.gitlab.run_pipeline(project))
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as directory:
        async with bare_machine(
            image,
            Path(directory),
            gitlab_port=port,
            gitlab_host=GITLAB_NAME,
            token=token,
            tsc_khz=khz,
            accelerator=accelerator,
        ):
            await stage.gitlab.wait_for_job(job, "success", timeout_s=120)
    return _pending_to_output_s(job)


def _pending_to_output_s(job: Job) -> float:
    pending = job.at("pending")
    if pending is None or job.first_trace_at is None:
        raise RuntimeError(f"job {job.id} has no output")
    return job.first_trace_at - pending


async def _split(stage: Stage, job: Job) -> dict[str, float]:
    """Seconds in each step, by the journal's times."""
    record = await stage.ledger.job(job.id)
    pending = job.at("pending")
    if record is None or record.machine_id is None or pending is None or job.first_trace_at is None:
        raise RuntimeError(f"job {job.id} left no record")
    at = {"taken": record.taken_at}
    for entry in await stage.ledger.journal(subject=record.machine_id, limit=1000):
        if entry.event == "moved" and entry.to_state:
            at.setdefault(entry.to_state, entry.at)
    at["output"] = job.first_trace_at
    found, before = {}, pending
    for state, _ in STEPS:
        found[state], before = at[state] - before, at[state]
    return found
