"""`firerunner hosts`, `cordon`, `uncordon`, `drain`, `believe`: what is on hosts, and what may go there."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Annotated

import typer

from firerunner.app import existing_ledger
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, errors, out, print_json, print_table
from firerunner.errors import SettingsError
from firerunner.fleet_view import HostView, hosts_now
from firerunner.ledger import HostUse, MachineRecord
from firerunner.machines.spec import Resources
from firerunner.settings import Settings, load_settings

LOOK_EVERY_S = 1.0

Names = Annotated[list[str], typer.Argument(help="Hosts, by their names in the configuration.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why: shown with the host and in the journal.")]


def hosts(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """List the hosts: whether they answer, what operators said of them, and what is in use there.

    Example: firerunner hosts --json
    """
    views = asyncio.run(hosts_now(load_settings(config)))
    if as_json:
        print_json([dataclasses.asdict(view) for view in views])
        return
    print_table(
        "hosts",
        ("host", "driver", "state", "machines", "jobs", "vCPU", "memory MiB", "disk MiB", "labels", "why"),
        [_row(view) for view in views],
    )


def cordon(names: Names, config: ConfigPath = DEFAULT_CONFIG, reason: Reason = "") -> None:
    """Let no new machine be made on a host. What is there stays, and waiting machines still get jobs.

    Example: firerunner cordon kvm-1 --reason "new kernel"
    """
    asyncio.run(_use(load_settings(config), names, HostUse.CORDONED, reason))
    back = f"firerunner uncordon {' '.join(names)}"
    out.print(f"{', '.join(names)}: no machine is made there until `{back}`.", markup=False)


def uncordon(names: Names, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Let machines be made on a host again.

    Example: firerunner uncordon kvm-1
    """
    asyncio.run(_use(load_settings(config), names, HostUse.NORMAL, ""))
    out.print(f"{', '.join(names)}: machines are made there again.", markup=False)


def drain(
    names: Names,
    config: ConfigPath = DEFAULT_CONFIG,
    reason: Reason = "",
    wait: Annotated[bool, typer.Option(help="Wait until nothing is left there.")] = True,
) -> None:
    """Empty a host: no new machine, those without a job end now, running jobs go on to their end.

    It needs the service, which does the work, and stays in force until `firerunner uncordon`, also after
    Ctrl-C.

    Example: firerunner drain kvm-1 --reason "new memory"
    """
    settings = load_settings(config)
    asyncio.run(_use(settings, names, HostUse.DRAINING, reason))
    if wait:
        asyncio.run(_until_empty(settings, names))
        back = f"firerunner uncordon {' '.join(names)}"
        out.print(f"{', '.join(names)}: empty. Nothing comes until `{back}`.", markup=False)
    else:
        out.print(f"{', '.join(names)}: draining; see `firerunner hosts`.", markup=False)


def believe(names: Names, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Believe at once that the machines a host shows no more are gone, however many they are.

    When many vanish in one moment, or all and one of them has a job, the service first takes that for a fault
    of the host's, waits for two minutes, and logs `not believed yet`. This ends the wait: their jobs are
    reported or moved.

    Example: firerunner believe kvm-1
    """
    asyncio.run(_believe(load_settings(config), names))
    out.print(f"{', '.join(names)}: what is seen there now is believed.", markup=False)


def _row(view: HostView) -> tuple[object, ...]:
    rooms = [
        f"{getattr(view.used, kind)}/{getattr(view.room, kind) if view.room else '?'}"
        for kind in Resources.__dataclass_fields__
    ]
    labels = ", ".join(f"{key}: {value}" for key, value in view.labels.items())
    return (view.name, view.driver, view.state, view.machines, view.jobs, *rooms, labels, view.why)


def _check(settings: Settings, names: Sequence[str]) -> None:
    known = [host.name for host in settings.hosts]
    for name in names:
        if name not in known:
            raise SettingsError(f"there is no host {name!r}", remedy=f"The hosts are: {', '.join(known)}")


async def _use(settings: Settings, names: Sequence[str], use: HostUse, reason: str) -> None:
    _check(settings, names)
    async with existing_ledger(settings) as ledger:
        for name in names:
            await ledger.use_host(name, use, reason)


async def _believe(settings: Settings, names: Sequence[str]) -> None:
    _check(settings, names)
    async with existing_ledger(settings) as ledger:
        for name in names:
            await ledger.believe_host(name)


async def _until_empty(settings: Settings, names: Sequence[str]) -> None:
    started, told = time.monotonic(), ""
    async with existing_ledger(settings) as ledger:
        while left := [machine for machine in await ledger.machines() if machine.host in names]:
            if (now := _told(left)) != told:
                told = now
                errors.print(f"{time.monotonic() - started:.0f} s: {told}", markup=False, highlight=False)
            await asyncio.sleep(LOOK_EVERY_S)


def _told(left: Sequence[MachineRecord]) -> str:
    with_job = [machine for machine in left if machine.job_id is not None]
    jobs = ", ".join(str(machine.job_id) for machine in with_job)
    machines = "1 machine" if len(left) == 1 else f"{len(left)} machines"
    return f"{machines} left" + (f", of jobs {jobs}" if jobs else "")
