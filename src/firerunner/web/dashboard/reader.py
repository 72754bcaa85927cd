"""Reads the ledger for the dashboard and makes views of it; all views of one moment share one read."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

from firerunner.errors import FireRunnerError
from firerunner.ledger import OPEN_JOBS, JobState, JournalEntry, MachineRecord, MachineState
from firerunner.machines.spec import MACHINE_ID
from firerunner.web.dashboard.render import piece
from firerunner.web.dashboard.timeline import lanes
from firerunner.web.dashboard.views import Pieces, View
from firerunner.web.operations import Fleet, Operations

ROWS = 200
"""Of the journal, and of jobs that are over."""
ROWS_OF_ONE = 60
CONSOLE_BYTES = 16 * 1024
STALE_S = 5.0
"""What the journal does not tell (room, reasons, traces) is read again after so long."""
MOST_MACHINES_OF_A_JOB = 3
MOST_PIECES = 20_000
"""That are kept; more are forgotten and made again."""

OVERVIEW, MACHINES, HOSTS, JOBS, JOURNAL = "pools", "machines", "hosts", "jobs", "journal"
LISTS = frozenset({OVERVIEW, MACHINES, HOSTS, JOBS, JOURNAL})


def is_view(name: str) -> bool:
    """Whether there can be a view of that name: a list, `job/NUMBER` or `machine/ID`."""
    kind, _, which = name.partition("/")
    if kind == "job":
        return which.isdecimal() and len(which) <= 18
    return name in LISTS or (kind == "machine" and MACHINE_ID.fullmatch(which) is not None)


class Reader:
    """Gives views. Pieces that have not changed are not made again."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._ledger = operations.ledger
        self._fleet: Fleet | None = None
        self._recent: list[JournalEntry] = []
        self._read_at = 0.0
        self._made: dict[str, tuple[tuple[Any, ...], str]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def views(self, names: Collection[str]) -> dict[str, View | None]:
        """Those of this moment; None for what there is not (any more). Raises LedgerError."""
        async with self._one_at_a_time:
            if len(self._made) > MOST_PIECES:
                self._made.clear()
            fleet = await self._now()
            return {name: await self._view(name, fleet) for name in sorted(names)}

    async def _now(self) -> Fleet:
        now, newest = self._ledger.clock(), await self._ledger.last_journal(limit=1)
        unmoved = newest[-1:] == self._recent[-1:] and 0 <= now - self._read_at < STALE_S
        if self._fleet is None or not unmoved:
            self._recent = await self._ledger.last_journal(limit=ROWS)
            self._fleet = await self._operations.fleet()
            self._read_at = now
        return self._fleet

    async def _view(self, name: str, fleet: Fleet) -> View | None:
        kind, _, which = name.partition("/")
        if kind == "job":
            return await self._job(int(which))
        if kind == "machine":
            return await self._machine(which)
        lists: Mapping[str, Callable[[Fleet], Mapping[str, Pieces]]] = {
            OVERVIEW: self._overview,
            MACHINES: self._machines,
            HOSTS: lambda fleet: {"hosts": self._each("host", fleet.hosts, lambda host: host.name)},
            JOURNAL: lambda fleet: {"journal": self._journal(self._recent)},
        }
        return View(await self._jobs(fleet) if name == JOBS else lists[name](fleet))

    def _overview(self, fleet: Fleet) -> Mapping[str, Pieces]:
        return {
            "tally": self._one("tally", fleet),
            "pools": {
                f"pool-{pool.name}": self._piece("pool", pool.name, pool, fleet.leads) for pool in fleet.pools
            },
        }

    def _machines(self, fleet: Fleet) -> Mapping[str, Pieces]:
        names = {job.machine_id: job.name for job in fleet.jobs}
        rows = {
            f"machine-{machine.machine_id}": self._piece(
                "machine", machine.machine_id, machine, names.get(machine.machine_id)
            )
            for machine in fleet.machines
        }
        counts = Counter(machine.state.value for machine in fleet.machines)
        counts["held"] = sum(machine.held_until is not None for machine in fleet.machines)
        return {
            "count": self._one("count", "live machine", _in_order(counts, MachineState)),
            "machines": rows,
        }

    async def _jobs(self, fleet: Fleet) -> Mapping[str, Pieces]:
        newest = await self._ledger.jobs_page(None, limit=ROWS)
        over = [job for job in newest if job.state not in OPEN_JOBS]
        counts = Counter(job.state.value for job in fleet.jobs)
        return {
            "count": self._one("count", "open job", _in_order(counts, JobState)),
            "open": self._each("job", fleet.jobs[::-1], lambda job: str(job.job_id)),
            "over": self._each("job", over, lambda job: str(job.job_id)),
        }

    async def _job(self, job_id: int) -> View | None:
        job = await self._ledger.job(job_id)
        if job is None:
            return None
        own = await self._ledger.last_journal(str(job_id), limit=ROWS)
        own = [row for row in own if row.subject_kind in {"job", "operator"}]
        told = [row.detail.get("machine") for row in own]
        ids = list(dict.fromkeys(str(each) for each in told if each))[-MOST_MACHINES_OF_A_JOB:]
        rows = list(own)
        for machine_id in ids:
            found = await self._ledger.last_journal(machine_id, limit=ROWS_OF_ONE)
            rows += [row for row in found if row.subject_kind in {"machine", "operator"}]
        rows.sort(key=lambda row: row.seq)
        machine = await self._ledger.machine(job.machine_id) if job.machine_id else None
        subjects = [("job", str(job_id)), *(("machine", each) for each in ids)]
        return View(
            {
                "facts": self._one("job_facts", job),
                "lanes": self._one("timeline", lanes(rows, subjects, self._coarse_now())),
                "console": await self._console(machine),
                "journal": self._journal(rows[-ROWS_OF_ONE:]),
            }
        )

    async def _machine(self, machine_id: str) -> View | None:
        machine = await self._ledger.machine(machine_id)
        if machine is None:
            return None
        rows = await self._ledger.last_journal(machine_id, limit=ROWS_OF_ONE)
        shown = lanes(rows, [("machine", machine_id)], self._coarse_now())
        return View(
            {
                "facts": self._one("machine_facts", machine),
                "lanes": self._one("timeline", shown),
                "console": await self._console(machine),
                "journal": self._journal(rows),
            }
        )

    async def _console(self, machine: MachineRecord | None) -> Pieces:
        raw, why = b"", ""
        if machine is not None:
            try:
                raw = await self._operations.console(machine, CONSOLE_BYTES)
            except FireRunnerError as error:
                why = error.message
        return self._one("console", raw, why)

    def _coarse_now(self) -> float:
        """So that a bar that grows is not a change at each look."""
        return self._ledger.clock() // STALE_S * STALE_S

    def _journal(self, rows: Collection[JournalEntry]) -> Pieces:
        """The newest first."""
        return {f"entry-{row.seq}": self._piece("entry", str(row.seq), row) for row in reversed(list(rows))}

    def _each(self, macro: str, items: Collection[Any], named: Callable[[Any], str]) -> Pieces:
        return {f"{macro}-{named(item)}": self._piece(macro, named(item), item) for item in items}

    def _one(self, macro: str, *facts: Any) -> Pieces:
        return {f"the-{macro}": str(piece(macro)(f"the-{macro}", *facts))}

    def _piece(self, macro: str, name: str, *facts: Any) -> str:
        """The HTML, made anew only if the facts are other ones than the last time."""
        key = f"{macro}-{name}"
        made = self._made.get(key)
        if made is None or made[0] != facts:
            made = self._made[key] = (facts, str(piece(macro)(key, *facts)))
        return made[1]


def _in_order(counts: Mapping[str, int], states: type[MachineState] | type[JobState]) -> dict[str, int]:
    """By the way of life, so that a number stands at the same place always."""
    return {name: counts[name] for name in (*states, "held") if counts[name]}
