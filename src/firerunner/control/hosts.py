"""Tells the plan what each host has, and that one in trouble, or an operator's hands, gets no machine."""

from __future__ import annotations

from firerunner.control.context import Context
from firerunner.errors import MachineError
from firerunner.ledger import HostOrder, HostUse
from firerunner.planning import HostChanged, HostFacts
from firerunner.planning.entries import NOTHING

FIRST_PAUSE_S = 20.0
LONGEST_PAUSE_S = 300.0
"""How long a host that could not make a machine is left alone: twice as long with each failure in a row."""


async def look_at_host(ctx: Context, host: str) -> None:
    """Tell the plan what the host has now, and whether it may get machines."""
    now = ctx.clock()
    order = ctx.host_orders.get(host)
    told = _told(order)
    try:
        capacity = await ctx.drivers[host].capacity()
        trouble = ctx.host_faults.get(host, "")
    except MachineError as error:
        capacity, trouble = NOTHING, str(error)
    if not told and not trouble and ctx.host_pauses.get(host, 0.0) > now:
        return
    if trouble and ctx.host_troubles.get(host) != trouble:
        ctx.log.error("a host gets no machines now", host=host, reason=trouble)
    if trouble:
        ctx.host_troubles[host] = trouble
    elif ctx.host_troubles.pop(host, None) is not None:
        ctx.log.info("a host gets machines again", host=host)
    facts = HostFacts(host, capacity, usable=not (told or trouble), reason=told or trouble)
    ctx.post(HostChanged(facts, at=now))


def _told(order: HostOrder | None) -> str:
    """Why an operator lets it have no machines; empty if one does."""
    if order is None or order.use is HostUse.NORMAL:
        return ""
    why = f" ({order.reason})" if order.reason else ""
    return f"{order.use} by an operator{why}"


async def heed_operators(ctx: Context) -> None:
    """Take in what operators have said of hosts since the last time."""
    orders = await ctx.ledger.host_orders()
    changed = [host for host in ctx.drivers if host in orders and orders[host] != ctx.host_orders.get(host)]
    ctx.host_orders = orders
    for host in changed:
        ctx.log.info("an operator's word on a host", host=host, use=str(orders[host].use))
        await look_at_host(ctx, host)


async def pause_host(ctx: Context, host: str, reason: str) -> None:
    """A machine could not be made there: try others first."""
    failures = ctx.host_failures.get(host, 0)
    ctx.host_failures[host] = failures + 1
    until = ctx.clock() + min(FIRST_PAUSE_S * 2 ** min(failures, 10), LONGEST_PAUSE_S)
    ctx.host_pauses[host] = until
    try:
        capacity = await ctx.drivers[host].capacity()
    except MachineError:
        capacity = NOTHING
    facts = HostFacts(host, capacity, usable=False, reason=reason)
    ctx.post(HostChanged(facts, at=ctx.clock(), until=until))
