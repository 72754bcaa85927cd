"""`firerunner jobs`, `machines`, `logs`: what is in the ledger and on the consoles."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from typing import Annotated, Any

import typer

from firerunner.app import console_of, existing_ledger
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, print_json, print_table
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
                _ago(now - job.state_since),
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
        print_json([_public(record) for record in records])
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
                _ago(now - machine.state_since),
                machine.resources.vcpu,
                machine.resources.memory_mib,
                machine.job_id,
                machine.reason,
            )
            for machine in records
        ],
    )


def logs(
    machine: Annotated[str, typer.Argument(help="A machine id, as `firerunner machines` lists it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    max_bytes: Annotated[int, typer.Option("--bytes", help="At most so many bytes from the end.")] = 65536,
) -> None:
    """Print the end of a machine's serial console.

    Example: firerunner logs fr-0123456789ab
    """
    sys.stdout.buffer.write(asyncio.run(console_of(load_settings(config), machine, max_bytes)))


async def _jobs(settings: Settings, show_all: bool) -> list[JobRecord]:
    async with existing_ledger(settings) as ledger:
        return await ledger.jobs(frozenset(JobState) if show_all else OPEN_JOBS)


async def _machines(settings: Settings, show_all: bool) -> list[MachineRecord]:
    async with existing_ledger(settings) as ledger:
        return await ledger.machines(frozenset(MachineState) if show_all else LIVE_MACHINES)


def _public(machine: MachineRecord) -> dict[str, Any]:
    facts = dataclasses.asdict(machine)
    del facts["credential_hash"]
    return facts


def _ago(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
