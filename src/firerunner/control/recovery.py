"""What a controller does first: read the ledger, look at the world, put right what a crash left."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import suppress

from firerunner.control.context import Context
from firerunner.control.failing import fail_machine
from firerunner.control.lost import LOOK_UP, remember, restore
from firerunner.control.sweeping import is_nowhere
from firerunner.control.taking import read_answers
from firerunner.errors import MachineError, StaleWrite
from firerunner.ledger import SIZED, MachineRecord, MachineState

LOOK_S = 10.0


async def recover(ctx: Context) -> None:
    """Bring the ledger to a state from which the loop can go on. Running machines are adopted."""
    await restore(ctx)
    for entry in await ctx.ledger.unfinished():
        # Sizing settles its own: it can look for what is left. So does who looks for lost jobs.
        if entry.subject_kind != SIZED and entry.event != LOOK_UP:
            await ctx.ledger.done(entry.seq, "unknown: the controller ended in between")
    await read_answers(ctx)
    for machine in await ctx.ledger.interrupted_asks():
        await _interrupted_ask(ctx, machine)
    machines = await ctx.ledger.machines()
    alive = await _alive(ctx, {m.host for m in machines if m.state is MachineState.CREATING})
    for machine in machines:
        if machine.host not in ctx.drivers:
            if not is_nowhere(machine):
                ctx.log.error(
                    "a machine's host is no longer configured; it is left alone until it is again",
                    machine=machine.machine_id,
                    host=machine.host,
                )
        elif machine.state is MachineState.CREATING:
            if machine.machine_id in alive:
                with suppress(StaleWrite):  # its guest has spoken meanwhile
                    await ctx.ledger.move_machine(
                        machine.machine_id,
                        MachineState.BOOTING,
                        reason="adopted",
                        expect=MachineState.CREATING,
                        vmm_started_at=ctx.clock(),
                    )
            else:
                why = "the controller ended while making it"
                await fail_machine(ctx, machine.machine_id, why, judged=MachineState.CREATING)


async def _interrupted_ask(ctx: Context, machine: MachineRecord) -> None:
    if machine.job_id is None:
        why = "the controller ended during the ask"
        asked_at = machine.ask_started_at or ctx.clock()
        if machine.machine_id not in ctx.lost:  # first: a crash here does it again
            await remember(ctx, machine.machine_id, machine.pool, machine.gitlab, asked_at, why)
        ctx.log.error(
            "the controller ended during an ask: GitLab may have handed out a job that nobody has",
            system_id=machine.machine_id,
        )
        await fail_machine(ctx, machine.machine_id, "the controller ended during its ask")
    await ctx.ledger.end_ask(machine.machine_id, "interrupted")


async def _alive(ctx: Context, hosts: Collection[str]) -> set[str]:
    """What lives on these hosts; one that does not answer holds the start up for `LOOK_S` at most."""
    looks = [_look(ctx, host) for host in hosts if host in ctx.drivers]
    return set().union(*await asyncio.gather(*looks))


async def _look(ctx: Context, host: str) -> set[str]:
    try:
        async with asyncio.timeout(LOOK_S):
            return {seen.machine_id for seen in await ctx.drivers[host].list() if seen.alive}
    except (MachineError, TimeoutError) as error:
        ctx.log.warning(
            "cannot look at a host now", host=host, error=str(error) or f"no answer in {LOOK_S} s"
        )
        return set()
