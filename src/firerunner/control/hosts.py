"""Tells the plan what each host has, and that one in trouble gets no machine for a while."""

from __future__ import annotations

from firerunner.control.context import Context
from firerunner.errors import MachineError
from firerunner.planning import HostChanged, HostFacts
from firerunner.planning.entries import NOTHING

HOST_PAUSE_S = 20.0
"""How long a host that could not make a machine is left alone."""


async def look_at_host(ctx: Context, host: str) -> None:
    """Tell the plan what the host has now, and whether it may get machines."""
    now = ctx.clock()
    if ctx.host_pauses.get(host, 0.0) > now:
        return
    try:
        facts = HostFacts(host, await ctx.drivers[host].capacity(), usable=True, reason="")
        ctx.host_troubles.pop(host, None)
    except MachineError as error:
        facts = HostFacts(host, NOTHING, usable=False, reason=str(error))
        if ctx.host_troubles.get(host) != str(error):
            ctx.log.error("a host gets no machines now", host=host, reason=str(error))
        ctx.host_troubles[host] = str(error)
    ctx.post(HostChanged(facts, at=now))


async def pause_host(ctx: Context, host: str, reason: str) -> None:
    """A machine could not be made there: try others first."""
    until = ctx.clock() + HOST_PAUSE_S
    ctx.host_pauses[host] = until
    try:
        capacity = await ctx.drivers[host].capacity()
    except MachineError:
        capacity = NOTHING
    facts = HostFacts(host, capacity, usable=False, reason=reason)
    ctx.post(HostChanged(facts, at=ctx.clock(), until=until))
