"""Giving a machine up."""

from __future__ import annotations

from firerunner.control.context import Context
from firerunner.errors import StaleWrite
from firerunner.ledger import MachineState


async def fail_machine(
    ctx: Context, machine_id: str, reason: str, *, judged: MachineState | None = None
) -> None:
    """Give the machine up. Its job is settled and it is retired by whoever sees it in `failed`.

    `judged` is the state on which the verdict rests: if the machine has moved on since, it is left alone.
    """
    machine = await ctx.ledger.machine(machine_id)
    if machine is None or machine.state in {MachineState.FAILED, MachineState.RETIRING, MachineState.GONE}:
        return
    try:
        machine = await ctx.ledger.move_machine(
            machine_id, MachineState.FAILED, reason=reason, expect=judged or machine.state
        )
    except StaleWrite:
        return
    ctx.post_machine(machine)
