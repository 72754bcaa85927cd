"""Looks through the ledger for what is undone and starts its actor: the net under every crash and fault."""

from __future__ import annotations

from firerunner.control.actors import Actors
from firerunner.control.asking import fail_machine
from firerunner.control.context import Context
from firerunner.control.deadlines import Verdict, overdue
from firerunner.control.retiring import retire
from firerunner.control.settling import needs_settling, settle
from firerunner.ledger import JobRecord, JobState, MachineRecord, MachineState

OVER = frozenset({JobState.ENDED, JobState.RETURNED})
BROKEN = frozenset({MachineState.FAILED, MachineState.RETIRING})


class Sweep:
    """`run` is called twice a second, and at once when something has failed."""

    def __init__(self, ctx: Context, actors: Actors) -> None:
        self._ctx = ctx
        self._actors = actors

    async def run(self, *, finishing: bool) -> None:
        """Settle jobs without a live machine, retire machines, enforce deadlines.

        `finishing`: machines without a job are retired as well.
        """
        ctx = self._ctx
        machines = {m.machine_id: m for m in await ctx.ledger.machines() if m.host in ctx.drivers}
        jobs = {job.job_id: job for job in await ctx.ledger.jobs()}
        for job in jobs.values():
            if needs_settling(job, machines.get(job.machine_id or "")):
                self._settle(job.job_id)
        for machine in machines.values():
            if machine.pool in ctx.pools:
                await self._look_at(machine, jobs, finishing)
        self._actors.forget_old()

    def retire(self, machine_id: str, reason: str) -> None:
        """Start to unmake a machine."""
        self._actors.act(machine_id, lambda: retire(self._ctx, machine_id, reason))

    def _settle(self, job_id: int) -> None:
        self._actors.act(f"settle-{job_id}", lambda: settle(self._ctx, job_id))

    async def _look_at(self, machine: MachineRecord, jobs: dict[int, JobRecord], finishing: bool) -> None:
        if machine.state in BROKEN:
            self.retire(machine.machine_id, machine.reason)
            return
        if finishing and _is_idle(machine):
            self.retire(machine.machine_id, "the controller finishes")
            return
        job = jobs.get(machine.job_id or -1)
        if job is None and machine.job_id is not None:
            job = await self._ctx.ledger.job(machine.job_id)
        if machine.state is MachineState.RESERVED and job is not None and job.state in OVER:
            self.retire(machine.machine_id, "its job ended before it was made")
            return
        verdict = overdue(
            machine,
            job,
            self._ctx.clock(),
            boot_s=self._ctx.pools[machine.pool].boot_timeout,
            job_s=self._ctx.job_deadline_s(job) if job else 0.0,
        )
        if verdict is None:
            return
        if verdict.verdict is Verdict.FAIL:
            await fail_machine(self._ctx, machine.machine_id, verdict.reason)
        else:
            self.retire(machine.machine_id, verdict.reason)


def _is_idle(machine: MachineRecord) -> bool:
    """True for a machine that has no job and no ask that could still bring one."""
    states = {MachineState.RESERVED, MachineState.BOOTING, MachineState.WAITING}
    return machine.job_id is None and machine.ask_started_at is None and machine.state in states
