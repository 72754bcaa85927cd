"""Looks through the ledger for what is undone and starts its actor: the net under every crash and fault."""

from __future__ import annotations

from firerunner.control.actors import Actors
from firerunner.control.context import Context
from firerunner.control.deadlines import DELIVERY_S, Verdict, overdue
from firerunner.control.failing import fail_machine
from firerunner.control.lost import looked_up
from firerunner.control.retiring import retire
from firerunner.control.settling import (
    MAX_MACHINES_PER_JOB,
    give_back_undelivered,
    needs_settling,
    settle,
)
from firerunner.control.taking import read_answers
from firerunner.ledger import HostUse, JobRecord, JobState, MachineRecord, MachineState

OVER = frozenset({JobState.ENDED, JobState.RETURNED})
UNDELIVERED = frozenset({JobState.TAKEN, JobState.ASSIGNED})
DEFAULT_BOOT_S = 90.0
"""For machines whose pool is no longer configured."""
BROKEN = frozenset({MachineState.FAILED, MachineState.RETIRING})


class Sweep:
    """`run` is called twice a second, and at once when something has failed."""

    def __init__(self, ctx: Context, actors: Actors) -> None:
        self._ctx = ctx
        self._actors = actors
        self._listens_since = ctx.clock()

    async def run(self, *, finishing: bool) -> None:
        """Settle jobs without a live machine, retire machines, enforce deadlines.

        `finishing`: machines without a job are retired as well.
        """
        ctx = self._ctx
        await read_answers(ctx)
        everywhere = await ctx.ledger.machines()
        machines = {m.machine_id: m for m in everywhere if m.host in ctx.drivers}
        jobs = {job.job_id: job for job in await ctx.ledger.jobs()}
        for job in jobs.values():
            if needs_settling(job, machines.get(job.machine_id or "")):
                self._settle(job.job_id)
            if job.state in UNDELIVERED and ctx.clock() - job.taken_at > self._undelivered_s(job):
                self._give_up(job.job_id)
        for machine_id in list(ctx.lost):
            self._look_up(machine_id, machines.get(machine_id))
        for machine in machines.values():
            with ctx.outlived(f"looking after {machine.machine_id}"):
                await self._look_at(machine, jobs, finishing)
        for machine in everywhere:
            if machine.host not in ctx.drivers and is_nowhere(machine) and _is_idle(machine):
                self.retire(machine.machine_id, "its host is no longer configured", machine.state)
        self._actors.forget_old()

    def retire(self, machine_id: str, reason: str, judged: MachineState | None = None) -> None:
        """Start to unmake a machine."""
        self._actors.act(machine_id, lambda: retire(self._ctx, machine_id, reason, judged))

    def _look_up(self, machine_id: str, machine: MachineRecord | None) -> None:
        """A kept id is looked after by its next ask."""
        if machine is None or machine.state is not MachineState.RESERVED or machine.job_id is not None:
            self._actors.act(f"lost-{machine_id}", lambda: looked_up(self._ctx, machine_id))

    def _settle(self, job_id: int) -> None:
        self._actors.act(f"settle-{job_id}", lambda: settle(self._ctx, job_id))

    def _give_up(self, job_id: int) -> None:
        why = "no machine could be had for it in time"
        self._actors.act(f"settle-{job_id}", lambda: give_back_undelivered(self._ctx, job_id, why))

    def _undelivered_s(self, job: JobRecord) -> float:
        """A job is `running` in GitLab while it waits for another machine; this long, and no longer."""
        pool = self._ctx.pools.get(job.pool)
        boots_s = MAX_MACHINES_PER_JOB * (pool.boot_timeout if pool else DEFAULT_BOOT_S)
        return min(self._ctx.job_deadline_s(job), boots_s + DELIVERY_S)

    async def _look_at(self, machine: MachineRecord, jobs: dict[int, JobRecord], finishing: bool) -> None:
        if machine.state in BROKEN:
            self.retire(machine.machine_id, machine.reason)
            return
        if (why := self._why_unwanted(machine, finishing)) and _is_idle(machine):
            self.retire(machine.machine_id, why, machine.state)
            return
        if finishing and machine.held_until is not None and machine.state is MachineState.BUSY:
            self.retire(machine.machine_id, "its hold is over: the controller finishes", machine.state)
            return
        job = jobs.get(machine.job_id or -1)
        if job is None and machine.job_id is not None:
            job = await self._ctx.ledger.job(machine.job_id)
        if machine.state is MachineState.RESERVED and job is not None and job.state in OVER:
            self.retire(machine.machine_id, "its job ended before it was made", machine.state)
            return
        pool = self._ctx.pools.get(machine.pool)
        if pool is None and machine.state is not MachineState.BUSY:
            await fail_machine(
                self._ctx, machine.machine_id, f"pool {machine.pool} is gone", judged=machine.state
            )
            return
        verdict = overdue(
            machine,
            job,
            self._ctx.clock(),
            boot_s=pool.boot_timeout if pool else DEFAULT_BOOT_S,
            job_s=self._ctx.job_deadline_s(job) if job else 0.0,
            spoke_at=max(self._ctx.spoke_at(machine.machine_id), self._listens_since),
        )
        if verdict is None:
            return
        if verdict.verdict is Verdict.FAIL:
            await fail_machine(self._ctx, machine.machine_id, verdict.reason, judged=machine.state)
        else:
            self.retire(machine.machine_id, verdict.reason, machine.state)

    def _why_unwanted(self, machine: MachineRecord, finishing: bool) -> str:
        """Why it gets no new job; empty if it does."""
        pools, order = self._ctx.pools, self._ctx.host_orders.get(machine.host)
        if machine.pool in pools and not pools.serves(machine.pool, machine.gitlab):
            return "its pool is withdrawn"
        if order is not None and order.use is HostUse.DRAINING:
            return "its host is drained"
        return "the controller finishes" if finishing else ""


def is_nowhere(machine: MachineRecord) -> bool:
    """True for an id of which nothing is on its host, so that it can go without it."""
    return machine.state is MachineState.RESERVED and not machine.room_held and machine.vmm_started_at is None


def _is_idle(machine: MachineRecord) -> bool:
    """True for a machine that has no job and no ask that could still bring one."""
    states = {MachineState.RESERVED, MachineState.BOOTING, MachineState.WAITING}
    return machine.job_id is None and machine.ask_started_at is None and machine.state in states
