"""`firerunner top`: the fleet, live."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from firerunner.app import existing_ledger
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, JsonLines, out, print_json_line
from firerunner.cli.wording import moment, span
from firerunner.ledger import JobState, Ledger, MachineState
from firerunner.overview import Overview, overview
from firerunner.settings import Settings, load_settings


def top(
    config: ConfigPath = DEFAULT_CONFIG,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    as_json: JsonLines = False,
) -> None:
    """Show pools, hosts and machines with their jobs, live, until Ctrl-C; not on a terminal, once.

    With --json each look is an object with `at`, `leader`, `pools`, `hosts` and `machines`. Why a pool does
    not ask is known to the service only: see `/ready`, or `/api/v1/pools`.

    Example: firerunner top

    Example: firerunner top --once --json
    """
    asyncio.run(_run(load_settings(config), every, once=once, as_json=as_json))


async def _run(settings: Settings, every_s: float, *, once: bool, as_json: bool) -> None:
    async with existing_ledger(settings) as ledger:
        if as_json:
            while True:
                print_json_line(dataclasses.asdict(await look(settings, ledger)))
                if once:
                    return
                await asyncio.sleep(every_s)
        if once or not out.is_terminal:
            out.print(_screen(await look(settings, ledger)))
            return
        with Live(
            _screen(await look(settings, ledger)), console=out, screen=True, auto_refresh=False
        ) as live:
            while True:
                await asyncio.sleep(every_s)
                live.update(_screen(await look(settings, ledger)), refresh=True)


async def look(settings: Settings, ledger: Ledger) -> Overview:
    """The fleet as the ledger has it now."""
    return overview(
        settings,
        await ledger.machines(),
        await ledger.jobs(),
        await ledger.host_orders(),
        await ledger.lease(),
        ledger.clock(),
    )


def _screen(seen: Overview) -> RenderableType:
    states = Counter(machine.state for machine in seen.machines)
    head = f"{moment(seen.at)}   leader: {seen.leader or 'none'}   machines: {_counts(states) or 'none'}"
    pools = _table("pool", "machines", "jobs", "oldest wait")
    for pool in seen.pools:
        machines = f"{sum(pool.machines.values())}/{pool.limit or '?'}  {_counts(pool.machines)}"
        wait = "" if pool.oldest_wait_s is None else span(pool.oldest_wait_s)
        pools.add_row(pool.name, machines, _counts(pool.jobs), wait)
    hosts = _table("host", "use", "machines", "vCPU", "memory MiB", "disk MiB")
    for host in seen.hosts:
        used = (host.used.vcpu, host.used.memory_mib, host.used.disk_mib)
        hosts.add_row(host.name, host.use, str(host.machines), *(str(each) for each in used))
    lines = _table("machine", "pool", "host", "state", "for", "job", "job is", "name", "project")
    for machine in seen.machines:
        lines.add_row(
            Text(machine.machine_id),
            machine.pool,
            machine.host,
            machine.state,
            span(machine.for_s),
            str(machine.job_id or ""),
            machine.job_state or "",
            Text(machine.job_name or ""),
            Text(machine.project or ""),
        )
    return Group(Text(head), pools, hosts, lines)


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    for column in columns:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    return table


def _counts(counts: Mapping[MachineState, int] | Mapping[JobState, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
