"""The actor that unmakes a machine: machine, disk and credential, then its runner manager record."""

from __future__ import annotations

from firerunner.control.context import Context
from firerunner.errors import GitLabError, MachineError, StaleWrite
from firerunner.ledger import MachineRecord, MachineState
from firerunner.telemetry.about import MACHINE


async def retire(ctx: Context, machine_id: str, reason: str, judged: MachineState | None = None) -> bool:
    """Bring the machine to `gone`. False if a part could not be removed now: call again later.

    `judged` is the state on which the wish rests: if the machine has moved on since, it is left alone.
    Room is given back as soon as the machine is gone from its host; its record in GitLab may take longer.
    """
    async with ctx.locks[machine_id]:
        machine = await ctx.ledger.machine(machine_id)
        if machine is None or machine.state is MachineState.GONE:
            ctx.post_removed(machine_id)
            return True
        if machine.state is not MachineState.RETIRING:
            try:
                machine = await ctx.ledger.move_machine(
                    machine_id, MachineState.RETIRING, reason=reason, expect=judged or machine.state
                )
            except StaleWrite:
                return True
            ctx.post_machine(machine)
        if machine.room_held or machine.vmm_started_at is not None:
            seq = await ctx.ledger.intend("destroy", machine_id, {"host": machine.host})
            await ctx.assure()
            try:
                with ctx.driving("destroy", machine):
                    await ctx.drivers[machine.host].destroy(machine_id)
            except MachineError as error:
                await ctx.ledger.done(seq, f"failed: {error.message}")
                ctx.log.error("cannot destroy a machine yet", machine=machine_id, error=str(error))
                return False
            await ctx.ledger.done(seq, "destroyed")
            ctx.post_machine(await ctx.ledger.release_room(machine_id))
        if machine.ask_started_at is not None:
            return False  # an ask in flight may still make a record in GitLab
        if machine_id in ctx.lost:
            return False  # a job that was lost is found by this record
        if machine.manager_known and not await _remove_record(ctx, machine):
            return False
        await ctx.ledger.move_machine(machine_id, MachineState.GONE, reason=machine.reason or reason)
        ctx.post_removed(machine_id)
        return True


async def _remove_record(ctx: Context, machine: MachineRecord) -> bool:
    machine_id = machine.machine_id
    pool = ctx.pools.get(machine.pool)
    if pool is None or pool.gitlab != machine.gitlab:  # that runner token is not for this GitLab
        ctx.log.error(
            "a runner manager record stays in GitLab: its pool is not configured there",
            system_id=machine_id,
            gitlab=machine.gitlab,
        )
        return True
    try:
        MACHINE.set(machine_id)
        runners = ctx.gitlab(machine.gitlab).runners
        await runners.delete_manager(pool.token, machine_id)
    except GitLabError as error:
        ctx.log.warning("cannot remove a runner manager record yet", machine=machine_id, error=str(error))
        return False
    await ctx.ledger.manager_removed(machine_id)
    return True
