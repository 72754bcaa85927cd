"""`firerunner jobs`, `machines`: what is in the ledger."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Annotated

import typer

from firerunner.app import existing_ledger
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, print_json, print_table, public
from firerunner.cli.wording import span
from firerunner.ledger import LIVE_MACHINES, OPEN_JOBS, JobRecord, JobState, MachineRecord, MachineState
from firerunner.settings import Settings, load_settings

All = Annotated[bool, typer.Option("--all", "-a", help="Ended ones too.")]


def jobs(config: ConfigPath = DEFAULT_CONFIG, show_all: All = False, as_json: Json = False) -> None:
    """List the jobs that GitLab has handed to us.

    Example: firerunner jobs --all --json
    """
    records = asyncio.run(_jobs(load_settings(config), show_all))
    if as_json:
        print_json([dataclasses.asdict(record) for record in records])
        return
    now = time.time()
    print_table(
        "jobs",
        ("job", "name", "project", "pool", "machine", "state", "for", "GitLab", "reason"),
        [
            (
                job.job_id,
                job.name,
                job.project_path,
                job.pool,
                job.machine_id,
                job.state,
                span(now - job.state_since),
                job.gitlab_status,
                job.failure_reason or job.reason,
            )
            for job in records
        ],
    )


def machines(config: ConfigPath = DEFAULT_CONFIG, show_all: All = False, as_json: Json = False) -> None:
    """List the machines and the job each one is for.

    Example: firerunner machines
    """
    records = asyncio.run(_machines(load_settings(config), show_all))
    if as_json:
        print_json([public(record) for record in records])
        return
    now = time.time()
    print_table(
        "machines",
        ("machine", "pool", "host", "state", "for", "vCPU", "MiB", "job", "reason"),
        [
            (
                machine.machine_id,
                machine.pool,
                machine.host,
                machine.state,
                span(now - machine.state_since),
                machine.resources.vcpu,
                machine.resources.memory_mib,
                machine.job_id,
                machine.reason,
            )
            for machine in records
        ],
    )


async def _jobs(settings: Settings, show_all: bool) -> list[JobRecord]:
    async with existing_ledger(settings) as ledger:
        return await ledger.jobs(frozenset(JobState) if show_all else OPEN_JOBS)


async def _machines(settings: Settings, show_all: bool) -> list[MachineRecord]:
    async with existing_ledger(settings) as ledger:
        return await ledger.machines(frozenset(MachineState) if show_all else LIVE_MACHINES)
