"""`firerunner report`: machine-minutes, waits and outcomes, out of the journal."""

from __future__ import annotations

import asyncio
import csv
import sys
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from firerunner.app import existing_ledger
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, errors, print_json, print_table
from firerunner.ledger import MachineState
from firerunner.reporting import By, Line, Outcome, Reporter
from firerunner.settings import Settings, load_settings

PAGE = 1000
DAY_S = 86_400.0


def report(
    config: ConfigPath = DEFAULT_CONFIG,
    by: Annotated[
        list[By] | None, typer.Option("--by", "-b", help="Divide by this; several times for several columns.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(min=0.01, help="Only what began in the last so many days.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, one header line first.")] = False,
    as_json: Json = False,
) -> None:
    """Add up machine-minutes, waits and outcomes by project, pool and day (in UTC).

    A wait is from GitLab's hand-over to the runner's first word. Machine-minutes go from the start of a
    machine's making until its host has its room back; of machines that never had a job the project is
    `(no job)`. All of it comes out of the journal, which reaches back `database.keep_days` (14) days:
    what is to be kept longer is to be written to a file before that.

    Example: firerunner report --by project --by day --days 7 --csv > week.csv
    """
    if as_csv and as_json:
        raise typer.BadParameter("give --csv or --json, not both")
    asked = list(dict.fromkeys(by or [By.PROJECT]))
    lines = asyncio.run(_lines(load_settings(config), asked, days))
    if as_json:
        print_json([line.flat() for line in lines])
    elif as_csv:
        _print_csv(asked, lines)
    else:
        _print_lines(asked, lines)


async def _lines(settings: Settings, by: list[By], days: float | None) -> list[Line]:
    now = time.time()
    async with existing_ledger(settings) as ledger:
        machines = await ledger.machines(frozenset(MachineState))
        pools = {machine.machine_id: machine.pool for machine in machines}
        reporter = Reporter(pools, now - days * DAY_S if days else float("-inf"))
        after = 0
        while entries := await ledger.journal(after, None, PAGE):
            for entry in entries:
                reporter.take(entry)
            after = entries[-1].seq
    first = reporter.reaches_back_to
    if first is not None and days and first > now - days * DAY_S:
        since = datetime.fromtimestamp(first, UTC).isoformat(sep=" ", timespec="minutes")
        errors.print(f"the journal reaches back to {since} only", markup=False, highlight=False)
    return reporter.lines(by, now)


def _print_csv(by: list[By], lines: list[Line]) -> None:
    columns = list(Line(dict.fromkeys(by, ""), 0, {}, None, None, None, 0.0).flat())
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(line.flat() for line in lines)


def _print_lines(by: list[By], lines: list[Line]) -> None:
    print_table(
        "jobs in the journal",
        (*by, "jobs", *Outcome, "wait: median", "95 %", "longest", "machine-minutes"),
        [
            (
                *line.group.values(),
                line.jobs,
                *(line.outcomes.get(outcome, 0) for outcome in Outcome),
                *(_seconds(wait) for wait in (line.wait_median_s, line.wait_p95_s, line.wait_longest_s)),
                f"{line.machine_minutes:.1f}",
            )
            for line in lines
        ],
    )


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"
