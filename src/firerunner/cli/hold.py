"""`firerunner hold`: the machines of failed jobs that are kept for a look."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from firerunner.app import existing_ledger
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, out, print_json, print_table, public
from firerunner.cli.wording import moment, span
from firerunner.gate.looking import is_held
from firerunner.ledger import MachineRecord, MachineState
from firerunner.settings import Settings, load_settings

app = typer.Typer(name="hold", help="Machines of failed jobs that are kept for a look.", no_args_is_help=True)


@app.command("list")
def list_command(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """List the machines that are held, by the pools that have `hold`.

    Example: firerunner hold list
    """
    held = asyncio.run(_held(load_settings(config)))
    if as_json:
        print_json([public(machine) for machine in held])
        return
    print_table(
        "machines are held",
        ("machine", "pool", "host", "job", "project", "until", "left"),
        [
            (
                machine.machine_id,
                machine.pool,
                machine.host,
                machine.job_id,
                machine.project_path,
                moment(machine.held_until or 0.0),
                span((machine.held_until or 0.0) - time.time()),
            )
            for machine in held
        ],
    )


@app.command("release")
def release(
    machine: Annotated[str, typer.Argument(help="A machine id, as `firerunner hold list` lists it.")],
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """End a hold now: the machine goes, with everything on it, and its room is free.

    Example: firerunner hold release fr-0123456789ab
    """
    asyncio.run(_release(load_settings(config), machine))
    out.print(f"{machine}: released.", markup=False, highlight=False)


async def _held(settings: Settings) -> list[MachineRecord]:
    async with existing_ledger(settings) as ledger:
        machines = await ledger.machines(frozenset({MachineState.BUSY}))
        return [machine for machine in machines if is_held(machine, ledger.clock())]


async def _release(settings: Settings, machine_id: str) -> None:
    async with existing_ledger(settings) as ledger:
        await ledger.release_hold(machine_id)
