"""The observer of hosts: which machines have ended, and which are there that should not be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from firerunner.control.asking import fail_machine
from firerunner.control.context import Context
from firerunner.control.sightings import Findings, compare
from firerunner.errors import MachineError
from firerunner.ledger import JobState, MachineState
from firerunner.machines.spec import Sighting

LOOK_EVERY_S = 1.0
PATIENCE_S = 120.0
"""How long a sudden absence of many machines is taken for a fault of the host's, not theirs."""

Retire = Callable[[str, str], None]


class HostWatch:
    """Looks at one host again and again; `now` makes it look at once."""

    def __init__(self, ctx: Context, host: str, retire: Retire) -> None:
        self._ctx = ctx
        self._host = host
        self._retire = retire
        self._suspects: frozenset[str] = frozenset()
        self._braking_since: float | None = None
        self.now = asyncio.Event()

    async def run(self) -> None:
        """Run for ever."""
        while True:
            with self._ctx.outlived(f"looking at host {self._host}"):
                await self.look()
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self.now.wait()
            except TimeoutError:
                pass
            self.now.clear()

    async def look(self) -> None:
        """Look once and act on what is seen."""
        known = [machine for machine in await self._ctx.ledger.machines() if machine.host == self._host]
        in_patience = self._braking_since is None or self._ctx.clock() - self._braking_since < PATIENCE_S
        findings = compare(await self._sightings(), known, in_patience)
        if findings.brake and self._braking_since is None:
            await self._ctx.ledger.note("host", self._host, "mass_death_brake", {"reason": findings.brake})
            self._ctx.log.error(
                "not believed yet", host=self._host, reason=findings.brake, believed_after_s=PATIENCE_S
            )
            self._braking_since = self._ctx.clock()
        elif not findings.brake and in_patience:
            self._braking_since = None
        for machine_id, detail in findings.dead.items():
            with self._ctx.outlived(f"settling the death of {machine_id}"):
                await self._dead(machine_id, detail)
        await self._remove_leaks(findings)

    async def _sightings(self) -> Sequence[Sighting]:
        try:
            seen = await self._ctx.drivers[self._host].list()
        except MachineError as error:
            self._ctx.host_faults[self._host] = str(error)
            raise
        self._ctx.host_faults.pop(self._host, None)
        return seen

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
            if record is not None and record.state is not MachineState.GONE:
                continue
            self._ctx.counters.leaks.labels(self._host).inc()
            self._ctx.log.error("leaked machine found", host=self._host, machine=machine_id)
            await self._ctx.ledger.note("machine", machine_id, "leak_found", {"host": self._host})
            with self._ctx.outlived(f"removing the leaked {machine_id}"):
                await self._ctx.drivers[self._host].destroy(machine_id)
        self._suspects = findings.leaked
