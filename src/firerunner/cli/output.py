"""How commands speak: tables for people, JSON for programs, progress and errors on standard error."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from firerunner.findings import Finding
from firerunner.images import Progress as Report
from firerunner.ledger import DIGESTS, MachineRecord

PLAIN_WIDTH = 160
"""Columns of a table that goes into a file or a pipe."""

ROOM_FOR_WORDS = 8
"""Columns that text needs at the least to be read."""
GAP = 2
"""Between two columns of a table."""

out = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
errors = Console(stderr=True, width=None if sys.stderr.isatty() else PLAIN_WIDTH, soft_wrap=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object in each line.")]
ConfigPath = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="FIRERUNNER_CONFIG",
        help="The configuration file.",
        show_default=True,
        readable=False,  # who may not read it is told what to do, by whatever reads it
    ),
]
DEFAULT_CONFIG = Path("/etc/firerunner/config.yaml")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2, default=str))


def print_json_line(value: Any) -> None:
    """One of several JSON documents, in a line of its own that a reader in a pipe gets at once."""
    typer.echo(json.dumps(value, default=str))
    sys.stdout.flush()


def public(machine: MachineRecord) -> dict[str, Any]:
    """A machine's record without what nobody needs to see."""
    return {name: fact for name, fact in dataclasses.asdict(machine).items() if name not in DIGESTS}


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table, or a sentence where it would be empty."""
    if not rows:
        out.print(f"No {title}.")
        return
    cells = [[_harmless(cell) for cell in row] for row in rows]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    whole = _kept_whole(columns, cells, out.width)
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=i in whole)
    for row in cells:
        table.add_row(*row)
    out.print(table)


def _kept_whole(columns: Sequence[str], rows: Sequence[Sequence[Text]], width: int) -> set[int]:
    """The columns of single words that are not broken into lines, as far as there is room for the others; a
    machine's id is the last to go, since people copy it."""
    widths = [max(len(name), *(row[i].cell_len for row in rows)) for i, name in enumerate(columns)]
    least = [min(each, ROOM_FOR_WORDS) for each in widths]
    whole = {i for i in range(len(columns)) if not any(" " in row[i].plain for row in rows)}
    by_use = sorted(whole, key=lambda i: (columns[i] != "machine", widths[i]))
    needed = GAP * len(columns) + sum((widths if i in whole else least)[i] for i in range(len(columns)))
    while by_use and needed > width:
        widest = by_use.pop()
        whole.remove(widest)
        needed -= widths[widest] - least[widest]
    return whole


def _harmless(cell: object) -> Text:
    """Names come from GitLab: nothing in them is markup, or for a terminal to obey."""
    text = "" if cell is None else str(cell)
    return Text("".join(each if each.isprintable() or each == "\n" else "?" for each in text))


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """What a look has found, with the remedies."""
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
        return
    print_table(
        "findings",
        ("", "what", "found", "remedy"),
        [(finding.level, finding.subject, finding.what, finding.remedy) for finding in findings],
    )


@contextmanager
def reported() -> Iterator[Report]:
    """Progress of a long command: a live line on a terminal, one line for each new step elsewhere."""
    if not errors.is_terminal:
        last = ""

        def line(step: str, message: str, fraction: float | None = None) -> None:
            nonlocal last
            if step != last or step == "runner":
                last = step
                errors.print(f"{step}: {message}", markup=False, highlight=False)

        yield line
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task("starting", total=1.0)

        def show(step: str, message: str, fraction: float | None = None) -> None:
            progress.update(task, description=f"{step}: {message}"[:90], completed=fraction)
            if step == "runner":
                progress.console.print(f"{step}: {message}", markup=False)

        yield show
