"""Given: machines and jobs in the states that the ledger's tests start from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import sqlalchemy as sa

from firerunner.ledger import JobRecord, Ledger, MachineState, NewJob
from firerunner.machines.spec import Resources

In = Callable[[Callable[[sa.Connection], Any]], Awaitable[Any]]
"""Runs a function with a connection to an empty database, in one transaction."""

A = "fr-aaaaaaaaaaaa"
B = "fr-bbbbbbbbbbbb"
SMALL = Resources(1, 512, 1024)
ANSWER = b'{"id":7,"token":"canary-job-token","variables":[{"key":"K","value":"canary-ci-secret"}]}'

PATH_TO = {
    MachineState.RESERVED: [],
    MachineState.CREATING: [MachineState.CREATING],
    MachineState.BOOTING: [MachineState.CREATING, MachineState.BOOTING],
    MachineState.WAITING: [MachineState.CREATING, MachineState.BOOTING, MachineState.WAITING],
    MachineState.RETIRING: [MachineState.RETIRING],
    MachineState.FAILED: [MachineState.FAILED],
    MachineState.GONE: [MachineState.RETIRING, MachineState.GONE],
}


def new_job(job_id: int = 7) -> NewJob:
    return NewJob(
        job_id=job_id,
        job_token="canary-job-token",
        name="build",
        project_id=3,
        project_path="group/project",
        timeout_s=3600,
    )


async def machine_in(ledger: Ledger, state: MachineState, machine_id: str = A, pool: str = "demo") -> None:
    await ledger.reserve(machine_id, pool, "local", SMALL, "sha256:1")
    for step in PATH_TO[state]:
        await ledger.move_machine(machine_id, step)


async def job_assigned(ledger: Ledger, machine_id: str = A, job_id: int = 7) -> JobRecord:
    await machine_in(ledger, MachineState.RESERVED, machine_id)
    await ledger.begin_ask(machine_id)
    await ledger.keep_answer(machine_id, ANSWER)
    job = await ledger.take(machine_id, new_job(job_id))
    await ledger.end_ask(machine_id, "job")
    return job
