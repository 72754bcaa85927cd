"""The observer of hosts: which machines have ended, which are there that should not be, and which host is
silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence

from firerunner.control.context import Context
from firerunner.control.failing import fail_machine
from firerunner.control.hosts import look_at_host
from firerunner.control.pacing import rest
from firerunner.control.sightings import Findings, compare, lost
from firerunner.errors import MachineError
from firerunner.ledger import JobState, MachineRecord, MachineState
from firerunner.machines.spec import Sighting
from firerunner.telemetry.catalogue import LEAKS

LOOK_EVERY_S = 1.0
LONGEST_PAUSE_S = 30.0
"""A host that cannot be reached is tried less and less often, but at least this often."""
PATIENCE_S = 120.0
"""How long a sudden absence of many machines is taken for a fault of the host's, not theirs."""

Retire = Callable[[str, str], None]
Known = Collection[MachineRecord]


class Watch:
    """Looks at all hosts again and again, each in a task of its own; `now` makes it look at once."""

    def __init__(self, ctx: Context, retire: Retire) -> None:
        self._ctx = ctx
        self._hosts = {host: HostWatch(ctx, host, retire) for host in ctx.drivers}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self.now = asyncio.Event()

    async def run(self) -> None:
        """Run for ever. One reading of the ledger serves all hosts."""
        try:
            while True:
                began = time.monotonic()
                with self._ctx.outlived("looking at hosts"):
                    await self._round()
                await rest(self.now, LOOK_EVERY_S, began)
        finally:
            for task in self._looking.values():
                task.cancel()
            await asyncio.gather(*self._looking.values(), return_exceptions=True)

    async def _round(self) -> None:
        """Raises what must not be outlived (`NotLeader`)."""
        for host, task in list(self._looking.items()):
            if task.done():
                del self._looking[host]
                task.result()
        due = [host for host, watch in self._hosts.items() if host not in self._looking and watch.is_due()]
        known: dict[str, list[MachineRecord]] = {host: [] for host in due}
        for machine in await self._ctx.ledger.machines():
            if machine.host in known:
                known[machine.host].append(machine)
        for host, machines in known.items():
            look = self._hosts[host].look(machines)
            self._looking[host] = asyncio.create_task(look, name=f"watch-{host}")


class HostWatch:
    """What has been seen of one host."""

    def __init__(self, ctx: Context, host: str, retire: Retire) -> None:
        self._ctx = ctx
        self._host = host
        self._retire = retire
        self._suspects: frozenset[str] = frozenset()
        self._told: set[str] = set()
        """Leaks that are in the journal."""
        self._braking_since: float | None = None
        self._held: frozenset[str] = frozenset()
        self._silent_since: float | None = None
        self._failures = 0
        self._not_before = 0.0

    def is_due(self) -> bool:
        """False while a host that cannot be reached is left alone, or was seen lately."""
        return self._ctx.clock() >= self._not_before

    async def look(self, known: Known) -> None:
        """Look once and act on what is seen. `known`: the host's machines in the ledger, as just read."""
        with self._ctx.outlived(f"looking at host {self._host}"):
            seen = await self._sightings()
            if seen is None:
                await self._give_up_lost(known)
            else:
                await self._compare(seen, known)

    async def _sightings(self) -> Sequence[Sighting] | None:
        """None if the host cannot be looked at."""
        ctx, host = self._ctx, self._host
        began = ctx.clock()
        try:
            seen = await ctx.drivers[host].list()
        except MachineError as error:
            first = host not in ctx.host_faults
            ctx.host_faults[host] = str(error)
            if first:
                self._silent_since = began  # one that hangs has been silent all the while
                await look_at_host(ctx, host)
            self._failures += 1
            pause_s = min(LOOK_EVERY_S * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE_S)
            self._not_before = ctx.clock() + pause_s
            return None
        self._failures, self._silent_since = 0, None
        # A guest that has just ended is looked for at once where that can be seen.
        every_s = ctx.drivers[host].look_every_s
        self._not_before = ctx.clock() + every_s - LOOK_EVERY_S if every_s > LOOK_EVERY_S else 0.0
        if ctx.host_faults.pop(host, None) is not None:
            await look_at_host(ctx, host)
        return seen

    async def _give_up_lost(self, known: Known) -> None:
        """A host that is silent, and guests that are: then what runs there is not waited for."""
        ctx = self._ctx
        if self._silent_since is None:
            return
        spoke = {machine.machine_id: ctx.spoke_at(machine.machine_id) for machine in known}
        for machine_id, state in lost(known, spoke, self._silent_since, ctx.clock()).items():
            reason = f"host {self._host} cannot be reached"
            with ctx.outlived(f"giving up {machine_id}"):
                await fail_machine(ctx, machine_id, reason, judged=state)

    async def _compare(self, seen: Sequence[Sighting], known: Known) -> None:
        ctx = self._ctx
        findings = compare(seen, known, self._may_brake(), self._held)
        self._held = findings.held
        if findings.brake and self._braking_since is None:
            await ctx.ledger.note("host", self._host, "mass_death_brake", {"reason": findings.brake})
            ctx.log.error(
                "not believed yet",
                host=self._host,
                reason=findings.brake,
                believed_after_s=PATIENCE_S,
                believe_now=f"firerunner believe {self._host}",
            )
            self._braking_since = ctx.clock()
        elif not findings.brake and self._may_brake():
            self._braking_since = None
        for machine_id, detail in findings.dead.items():
            with ctx.outlived(f"settling the death of {machine_id}"):
                await self._dead(machine_id, detail)
        await self._remove_leaks(findings)

    def _may_brake(self) -> bool:
        since, order = self._braking_since, self._ctx.host_orders.get(self._host)
        if since is None:
            return True
        believed_at = (order.believed_at if order else None) or 0.0
        return believed_at < since and self._ctx.clock() - since < PATIENCE_S

    async def _dead(self, machine_id: str, detail: str) -> None:
        machine = await self._ctx.ledger.machine(machine_id)
        if machine is None or machine.state not in {
            MachineState.BOOTING,
            MachineState.WAITING,
            MachineState.BUSY,
        }:
            return
        job = await self._ctx.ledger.job(machine.job_id) if machine.job_id else None
        if machine.state is MachineState.BUSY and job and job.state in {JobState.ENDED, JobState.RETURNED}:
            self._retire(machine_id, f"its job ended ({job.gitlab_status})")
        else:
            await fail_machine(self._ctx, machine_id, f"the machine died: {detail}", judged=machine.state)

    async def _remove_leaks(self, findings: Findings) -> None:
        """Destroy what two looks in a row have shown and the ledger does not know."""
        for machine_id in findings.leaked & self._suspects:
            record = await self._ctx.ledger.machine(machine_id)
            if record is not None and record.state is not MachineState.GONE and record.host == self._host:
                continue
            if machine_id not in self._told:  # one that does not go is found again and again
                self._ctx.metrics.count(LEAKS, self._host)
                self._ctx.log.error("leaked machine found", host=self._host, machine=machine_id)
                await self._ctx.ledger.note("machine", machine_id, "leak_found", {"host": self._host})
                self._told.add(machine_id)
            with self._ctx.outlived(f"removing the leaked {machine_id}"):
                await self._ctx.assure()
                await self._ctx.drivers[self._host].destroy(machine_id)
        self._suspects = findings.leaked
        self._told &= findings.leaked
