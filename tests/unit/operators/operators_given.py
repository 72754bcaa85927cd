"""Given: a configuration, a ledger with a day's work in it, and the commands run on them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from click.testing import Result
from typer.testing import CliRunner

from firerunner.cli.main import app
from firerunner.ledger import JobState, Keyring, Ledger, MachineState, NewJob
from firerunner.machines.spec import Resources
from firerunner.settings import Settings, load_settings

MIDNIGHT = 1_760_054_400.0
"""2025-10-10 00:00:00 UTC."""
SMALL = Resources(1, 512, 1024)
JOB_TOKEN = "canary-job-token"
RUNNER_TOKEN = "glrt-canary-runner-token"


@dataclass
class HeldClock:
    """Stands still until the test moves it."""

    now: float = MIDNIGHT

    def __call__(self) -> float:
        return self.now


def machine_id(number: int) -> str:
    return f"fr-{number:012x}"


def configured(folder: Path, **sections: Any) -> Path:
    """A configuration with one pool and its state in the folder."""
    path = folder / "config.yaml"
    pool = {"name": "small", "runner_token": RUNNER_TOKEN, "image": "demo", "limit": 5}
    said = {"gitlab": {"url": "http://127.0.0.1:9"}, "pools": [pool], "state_dir": str(folder / "state")}
    path.write_text(yaml.safe_dump(said | sections))
    (folder / "state").mkdir(exist_ok=True)
    return path


@asynccontextmanager
async def ledger_of(settings: Settings, clock: HeldClock) -> AsyncIterator[Ledger]:
    opened = await Ledger.open(settings.database_url, Keyring.load_or_create(settings.key_file), clock)
    yield opened
    await opened.aclose()


async def machine_made(ledger: Ledger, number: int) -> str:
    name = machine_id(number)
    await ledger.reserve(name, "small", "local", SMALL, "sha256:1")
    for state in (MachineState.CREATING, MachineState.BOOTING, MachineState.WAITING):
        await ledger.move_machine(name, state)
    return name


async def job_taken(ledger: Ledger, number: int, job_id: int, project: str = "group/project") -> None:
    name = machine_id(number)
    await ledger.begin_ask(name)
    await ledger.keep_answer(name, b'{"id":1,"token":"canary-job-token"}')
    await ledger.take(name, NewJob(job_id, JOB_TOKEN, "build [/x]", 3, project, 3600))
    await ledger.end_ask(name, "job")


async def machine_gone(ledger: Ledger, number: int) -> None:
    await ledger.move_machine(machine_id(number), MachineState.RETIRING, reason="its job ended (success)")
    await ledger.release_room(machine_id(number))
    await ledger.move_machine(machine_id(number), MachineState.GONE)


async def days_work(ledger: Ledger, clock: HeldClock) -> None:
    """Job 7 waits for 20 s, runs for 90 s, succeeds; job 8 is of the next day and is returned; job 9 still
    waits on machine 3; machine 4 never had one."""
    await machine_made(ledger, 1)
    clock.now += 10
    await job_taken(ledger, 1, 7)
    clock.now += 20
    await ledger.deliver(7)
    await ledger.move_job(7, JobState.RUNNING)
    clock.now += 90
    await ledger.move_job(7, JobState.ENDED, gitlab_status="success")
    await machine_gone(ledger, 1)
    clock.now = MIDNIGHT + 86_400
    await machine_made(ledger, 2)
    await job_taken(ledger, 2, 8, "group/other")
    clock.now += 60
    await ledger.move_job(8, JobState.RETURNED, reason="its machine died")
    await machine_gone(ledger, 2)
    await machine_made(ledger, 3)
    await job_taken(ledger, 3, 9)
    await machine_made(ledger, 4)
    clock.now += 30


def run(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "220", "TERM": "dumb"})


def settings_of(config: Path) -> Settings:
    return load_settings(config)
