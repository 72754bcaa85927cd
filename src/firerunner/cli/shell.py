"""`firerunner shell`: a look at a held machine, command by command."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer

from firerunner.app import existing_ledger
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, errors
from firerunner.cli.wording import harmless, span
from firerunner.errors import FireRunnerError
from firerunner.gate.looking import is_held
from firerunner.ledger import JobRecord, MachineRecord
from firerunner.local_api import local_api
from firerunner.settings import Settings, load_settings


def shell(
    machine: Annotated[str, typer.Argument(help="A machine id, as `firerunner hold list` lists it.")],
    config: ConfigPath = DEFAULT_CONFIG,
    reason: Annotated[
        str, typer.Option("--reason", "-r", help="Why: written into the journal with each command.")
    ] = "a look at a failed job",
) -> None:
    """Run commands as root on a machine that is held, line by line from standard input, until Ctrl-D.

    It goes through the service's API (`api.operate_token`) and the gate: nothing connects to the machine.
    Each line is a command for /bin/sh, which gets no input and 60 seconds; the directory is kept from one to
    the next. Each is written into the journal with who ran it and why; what it prints is shown here only. The
    exit status is that of the last command.

    Example: firerunner shell fr-0123456789ab --reason "job 4711 fails here only"
    """
    settings = load_settings(config)
    errors.print(asyncio.run(_warning_of(settings, machine)), style="yellow", markup=False, highlight=False)
    code = 0
    while line := _line(machine):
        if line.strip():
            code = _shown(asyncio.run(_run(settings, machine, line, reason)))
    raise typer.Exit(code)


async def _warning_of(settings: Settings, machine_id: str) -> str:
    """Raises FireRunnerError if it is not held."""
    async with existing_ledger(settings) as ledger:
        machine = await ledger.machine(machine_id)
        if machine is None or not is_held(machine, ledger.clock()):
            raise FireRunnerError(f"machine {machine_id} is not held", remedy="See `firerunner hold list`")
        job = await ledger.job(machine.job_id) if machine.job_id is not None else None
        return _warning(machine, job, (machine.held_until or 0.0) - ledger.clock())


def _warning(machine: MachineRecord, job: JobRecord | None, left_s: float) -> str:
    what = f"job {job.gitlab_job_id} ({job.name}) of {job.project_path}" if job else "its job"
    return (
        f"{machine.machine_id} holds the variables, files and credentials of {what}, and what that has left "
        f"running; {span(left_s)} left. Every command is written into the journal."
    )


def _line(machine_id: str) -> str:
    """The next one; empty at the end of the input."""
    if sys.stdin.isatty():
        errors.print(f"{machine_id}# ", end="", markup=False, highlight=False)
    return sys.stdin.readline()


async def _run(settings: Settings, machine_id: str, line: str, reason: str) -> dict[str, Any]:
    async with local_api(settings) as api:
        said = {"reason": reason, "script": line.rstrip("\n")}
        return await api.act(f"/machines/{machine_id}/look", said)


def _shown(seen: dict[str, Any]) -> int:
    if seen["exit_code"] is None:
        raise FireRunnerError(
            "the machine has brought nothing back",
            remedy="It may have ended, or ask at another controller: run this there",
        )
    typer.echo(harmless(seen["output"]), nl=False)
    return int(seen["exit_code"])
