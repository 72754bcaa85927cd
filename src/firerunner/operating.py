"""What operators see and do through the API, out of the ledger, the settings and the controller."""

from __future__ import annotations

from collections.abc import Callable

from firerunner.control import KnownPools
from firerunner.control.asking import fail_machine
from firerunner.errors import NotLeader
from firerunner.gate.looking import Looks
from firerunner.leading import Term
from firerunner.ledger import HostOrder, HostUse, Ledger, MachineRecord
from firerunner.machines.spec import Resources
from firerunner.settings import HostSettings, Settings
from firerunner.web import Host, Operations, Pool, Size

LOOK_S = 75.0
"""Longer than a guest lets a script run."""


def operations(
    settings: Callable[[], Settings],
    ledger: Ledger,
    known: KnownPools,
    term: Callable[[], Term | None],
    looks: Looks,
) -> Operations:
    """For the API of this service. `settings` gives those in force, `term` what leads, if it is this one."""

    async def hosts() -> list[Host]:
        orders, machines, leads = await ledger.host_orders(), await ledger.machines(), term()
        rooms = leads.controller.rooms() if leads else {}
        troubles = leads.context.host_troubles | leads.context.host_faults if leads else {}
        return [
            _host(
                host,
                [machine for machine in machines if machine.host == host.name],
                orders.get(host.name) or HostOrder(HostUse.NORMAL, "", 0.0),
                troubles.get(host.name),
                rooms.get(host.name),
            )
            for host in settings().hosts
        ]

    async def pools() -> list[Pool]:
        machines, leads = await ledger.machines(), term()
        silent = leads.sizing.reasons() | leads.controller.reasons() if leads else {}
        return [
            Pool(
                name=pool.name,
                gitlab=pool.gitlab,
                image=pool.image,
                executor=pool.executor,
                resources=Size.model_validate(pool.resources),
                limit=pool.limit,
                warm=pool.warm,
                machines=sum(machine.pool == pool.name for machine in machines),
                jobs=sum(machine.pool == pool.name and machine.job_id is not None for machine in machines),
                silent=silent.get(pool.name),
            )
            for pool in known.declared()
        ]

    async def destroy(machine_id: str, reason: str) -> None:
        leads = term()
        if leads is None:
            raise NotLeader("another controller leads", remedy="ask that one: `/ready` names it")
        await fail_machine(leads.context, machine_id, reason)

    return Operations(
        ledger=ledger,
        host_names=lambda: [host.name for host in settings().hosts],
        hosts=hosts,
        pools=pools,
        destroy=destroy,
        look=lambda machine_id, script: looks.run(machine_id, script, LOOK_S),
    )


def _host(
    host: HostSettings,
    machines: list[MachineRecord],
    order: HostOrder,
    trouble: str | None,
    room: Resources | None,
) -> Host:
    used = sum((machine.resources for machine in machines if machine.room_held), Resources(0, 0, 0))
    return Host(
        name=host.name,
        driver=host.driver,
        labels=host.labels,
        use=order.use,
        reason=order.reason,
        use_since=order.since or None,
        trouble=trouble,
        machines=len(machines),
        jobs=sum(machine.job_id is not None for machine in machines),
        used=Size.model_validate(used),
        room=room and Size.model_validate(room),
    )
