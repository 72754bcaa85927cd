"""What people see while the demo runs: each job's state, machine, seconds, last line of its trace."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from firerunner.fakes.gitlab.model import Job
from firerunner.ledger import JobRecord, MachineRecord

_TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\dT\S+Z \d\d[OE]\+? ?")
"""What gitlab-runner puts before each line (gitlab-runner FF_TIMESTAMPS, on by default)."""

_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|section_(?:start|end):\d+:\S*|[\x00-\x08\x0b-\x1f]")
_STYLES = {"success": "green", "failed": "red", "canceled": "yellow", "running": "cyan"}


@dataclass(frozen=True, slots=True)
class Row:
    """One job as it stands now."""

    job_id: int
    name: str
    gitlab: str
    state: str
    machine: str
    machine_state: str
    seconds: float
    """In the machine's present state, or since the job was queued."""
    last_line: str


def row(job: Job, record: JobRecord | None, machine: MachineRecord | None, now: float) -> Row:
    """Put together what GitLab and the ledger say of one job."""
    since = machine.state_since if machine else (job.queued_at or job.created_at)
    return Row(
        job_id=job.id,
        name=job.name,
        gitlab=job.status.value,
        state=record.state if record else "",
        machine=machine.machine_id if machine else "",
        machine_state=machine.state if machine else "",
        seconds=max(0.0, now - since),
        last_line=last_line(job.trace[-2000:].decode(errors="replace")),
    )


def last_line(trace: str) -> str:
    """The last line of a trace with something in it, without colours and section marks."""
    raw = (_TIMESTAMP.sub("", line) for line in trace.replace("\r", "\n").split("\n"))
    lines = [_CONTROL.sub("", line).strip() for line in raw]
    return next((line for line in reversed(lines) if line), "")


def table(rows: Sequence[Row], heading: str) -> RenderableType:
    """The live table."""
    shown = Table(title=heading, title_justify="left", expand=True)
    for column, width in (("job", None), ("GitLab", 9), ("ours", 9), ("machine", 15), ("is", 9), ("for", 6)):
        shown.add_column(column, width=width, no_wrap=True)
    shown.add_column("last line", ratio=1, no_wrap=True, overflow="ellipsis")
    for item in rows:
        shown.add_row(
            item.name,
            Text(item.gitlab, _STYLES.get(item.gitlab, "")),
            item.state,
            item.machine,
            item.machine_state,
            f"{item.seconds:.0f} s",
            Text(item.last_line, "dim"),
        )
    return shown


class Changes:
    """For a log instead of a terminal: one line for each change of a job's state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._seen: dict[int, tuple[str, str, str]] = {}

    def show(self, rows: Sequence[Row]) -> None:
        """Print what is new."""
        for item in rows:
            now = (item.gitlab, item.state, item.machine_state)
            if self._seen.get(item.job_id) != now:
                self._seen[item.job_id] = now
                where = f" in {item.machine} ({item.machine_state})" if item.machine else ""
                self._console.print(
                    f"  {item.name:14} #{item.job_id} {item.gitlab}{where}", markup=False, highlight=False
                )
