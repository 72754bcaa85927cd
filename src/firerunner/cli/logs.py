"""`firerunner logs`: all that is known of one job or one machine: its journal and its console."""

from __future__ import annotations

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import Annotated

import typer

from firerunner.app import console_of, existing_ledger
from firerunner.cli.events import readable
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, errors, out, print_json, public
from firerunner.cli.wording import harmless
from firerunner.errors import FireRunnerError
from firerunner.ledger import JobRecord, JournalEntry, Ledger, MachineRecord, MachineState
from firerunner.settings import Settings, load_settings

MOST = 1000
"""Rows of the journal for one subject; a machine's whole life is some twenty."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the ledger has of a subject."""

    job: JobRecord | None
    machines: list[MachineRecord]
    """Of a job all that were meant for it, the first one first."""
    journal: list[JournalEntry]


def logs(
    subject: Annotated[
        str, typer.Argument(metavar="JOB|MACHINE", help="As `firerunner jobs` and `machines` list them.")
    ],
    config: ConfigPath = DEFAULT_CONFIG,
    max_bytes: Annotated[
        int, typer.Option("--bytes", min=0, help="At most so many bytes from the console's end.")
    ] = 65536,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what the journal says of a job or a machine, and the end of the machine's serial console.

    The console says how the guest booted and ended; what the job itself prints is in its log in GitLab. It
    goes with the machine. With --json: `job`, `machines`, `journal`, and `console` (null if there is none).

    Example: firerunner logs 4711

    Example: firerunner logs fr-0123456789ab --bytes 2000
    """
    settings = load_settings(config)
    found = asyncio.run(_find(settings, subject))
    console, trouble = asyncio.run(_console(settings, found.machines, max_bytes))
    if as_json:
        print_json(
            {
                "job": dataclasses.asdict(found.job) if found.job else None,
                "machines": [public(machine) for machine in found.machines],
                "journal": [dataclasses.asdict(entry) for entry in found.journal],
                "console": console,
            }
        )
        return
    for entry in found.journal:
        out.print(readable(entry), markup=False, highlight=False, soft_wrap=True)
    if console is not None:
        out.print(f"\nconsole of {found.machines[-1].machine_id}:", markup=False, highlight=False)
        typer.echo(console.rstrip("\n"))
    elif trouble:
        errors.print(trouble, markup=False, highlight=False)


async def _find(settings: Settings, subject: str) -> Found:
    """Raises FireRunnerError for what nobody knows."""
    async with existing_ledger(settings) as ledger:
        machine = await ledger.machine(subject)
        job = await ledger.job(int(subject)) if subject.isdecimal() and len(subject) < 20 else None
        if machine is not None:
            own = await ledger.journal(0, subject, MOST)
            job = await ledger.job(machine.job_id) if machine.job_id is not None else None
            return Found(job, [machine], own)
        if job is not None:
            return await _of_job(ledger, job)
    raise FireRunnerError(
        f"there is no machine {subject}" if subject.startswith("fr-") else f"there is no job {subject}",
        remedy="See `firerunner machines --all` and `firerunner jobs --all`",
    )


async def _of_job(ledger: Ledger, job: JobRecord) -> Found:
    rows = await ledger.journal(0, str(job.job_id), MOST)
    named = [str(row.detail["machine"]) for row in rows if row.detail.get("machine")]
    ids = list(dict.fromkeys([*named, *([job.machine_id] if job.machine_id else [])]))
    for machine_id in ids:
        rows += await ledger.journal(0, machine_id, MOST)
    machines = [found for machine_id in ids if (found := await ledger.machine(machine_id))]
    return Found(job, machines, sorted(rows, key=lambda row: row.seq))


async def _console(
    settings: Settings, machines: list[MachineRecord], max_bytes: int
) -> tuple[str | None, str]:
    """The last machine's, or why it cannot be had."""
    if not machines:
        return None, "it has had no machine"
    last = machines[-1]
    if last.state is MachineState.GONE:
        return None, f"{last.machine_id} is gone, and its console with it"
    try:
        said = await console_of(settings, last, max_bytes)
    except FireRunnerError as error:
        return None, str(error)
    return harmless(said.decode("utf-8", "replace")), ""
