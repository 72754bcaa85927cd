"""What must be as it was: the ledger, the operators' audit, the service's memory and file descriptors."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firerunner.ledger import Ledger
from tests.fuzz.items import Facts
from tests.fuzz.world import World

MIB = 1024 * 1024
MOST_RSS_MIB = 64
MOST_FDS = 24
"""So many more open ones are no leak: SQLite's, and connections on their way out."""
ACCEPTED = ("woke", "ignored", "not_woken")
REFUSED = "refused"
_PAGE = 1000


@dataclass(frozen=True)
class Seen:
    """The ledger and the counters at one moment."""

    jobs: dict[int, dict[str, Any]]
    machines: dict[str, dict[str, Any]]
    orders: dict[str, Any]
    journal: int
    accepted: int
    gitlab_jobs: dict[int, tuple[str, int]]


async def seen(it: World) -> Seen:
    """Now."""
    ledger = it.scene.ledger
    jobs = await ledger.jobs_page(None, before=None, limit=_PAGE)
    machines = await ledger.machines_page(None, after="", limit=_PAGE)
    last = await ledger.last_journal(limit=1)
    counted = await it.counted()
    return Seen(
        {job.job_id: dataclasses.asdict(job) for job in jobs},
        {machine.machine_id: dataclasses.asdict(machine) for machine in machines},
        dict(await ledger.host_orders()),
        last[-1].seq if last else 0,
        sum(counted.get(outcome, 0) for outcome in ACCEPTED),
        {job.id: (str(job.status), job.handed_out) for job in it.scene.gitlab.jobs()},
    )


async def obeyed(it: World, before: Seen, after: Seen, hooks: int) -> list[str]:
    """Effects that nobody was entitled to, in words."""
    found = [
        f"accepted hooks: {after.accepted - before.accepted}, honest ones: {hooks}"
        for wrong in [after.accepted - before.accepted != hooks]
        if wrong
    ]
    if before.orders != after.orders:
        found.append(f"hosts' orders are {after.orders}")
    grown = {"trace_bytes", "gitlab_status"}
    own = {it.facts.insider.job_id}
    found += [
        f"job {name}: {what}" for name, what in _changed(before.jobs, after.jobs, grown) if name not in own
    ]
    found += [f"machine {name}: {what}" for name, what in _changed(before.machines, after.machines, set())]
    if before.gitlab_jobs != after.gitlab_jobs:
        found.append(f"GitLab's jobs were {before.gitlab_jobs} and are {after.gitlab_jobs}")
    return found + [f"journal: {row}" for row in await rows(it.scene.ledger, it.facts, before.journal)]


async def rows(ledger: Ledger, facts: Facts, after: int) -> list[str]:
    """New rows of the journal that are no notes of a refusal."""
    found: list[str] = []
    while entries := await ledger.journal(after, limit=_PAGE):
        after = entries[-1].seq
        found += [
            f"{entry.seq} {entry.subject_kind} {entry.subject} {entry.event} {entry.detail}"
            for entry in entries
            if (entry.subject_kind, entry.event) != ("machine", REFUSED)
        ]
    return found


def _changed(before: dict[Any, Any], after: dict[Any, Any], grown: set[str]) -> list[tuple[Any, str]]:
    found: list[tuple[Any, str]] = [(name, "is there") for name in after.keys() - before.keys()]
    found += [(name, "is gone") for name in before.keys() - after.keys()]
    for name in before.keys() & after.keys():
        was, now = before[name], after[name]
        found += [
            (name, f"{key} was {was[key]!r} and is {now[key]!r}")
            for key in was
            if was[key] != now[key] and key not in grown
        ]
    return found


def rss_mib(pid: int) -> float:
    """Memory of the process, as the kernel counts it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / MIB
    return 0.0


def cpu_s(pid: int) -> float:
    """Processor time that it has used."""
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def open_fds(pid: int) -> int:
    """File descriptors of the process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
