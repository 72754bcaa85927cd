"""The actor that unmakes a machine: machine, disk and credential, then its runner manager record."""

from __future__ import annotations

from firerunner.control.context import Context
from firerunner.errors import GitLabError, MachineError
from firerunner.ledger import MachineState


async def retire(ctx: Context, machine_id: str, reason: str) -> bool:
    """Bring the machine to `gone`. False if a part could not be removed now: call again later."""
    async with ctx.locks[machine_id]:
        machine = await ctx.ledger.machine(machine_id)
        if machine is None or machine.state is MachineState.GONE:
            ctx.post_removed(machine_id)
            return True
        if machine.state is not MachineState.RETIRING:
            machine = await ctx.ledger.move_machine(machine_id, MachineState.RETIRING, reason=reason)
            ctx.post_machine(machine)
        seq = await ctx.ledger.intend("destroy", machine_id, {"host": machine.host})
        try:
            await ctx.drivers[machine.host].destroy(machine_id)
        except MachineError as error:
            await ctx.ledger.done(seq, f"failed: {error.message}")
            ctx.log.error("cannot destroy a machine yet", machine=machine_id, error=str(error))
            return False
        await ctx.ledger.done(seq, "destroyed")
        if machine.manager_known and machine.pool in ctx.pools:
            try:
                await ctx.runners.delete_manager(ctx.runner_token(machine.pool), machine_id)
                await ctx.ledger.manager_removed(machine_id)
            except GitLabError as error:
                ctx.log.warning("cannot remove a runner manager yet", machine=machine_id, error=str(error))
                return False
        await ctx.ledger.move_machine(machine_id, MachineState.GONE)
        ctx.log.info("machine gone", machine=machine_id, reason=machine.reason or reason)
        ctx.post_removed(machine_id)
        ctx.locks.pop(f"job-{machine.job_id}", None)
        return True
