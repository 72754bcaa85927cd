"""What is on each host now, for operators: the settings, the ledger, and a look at the host itself."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from firerunner.app import existing_ledger
from firerunner.errors import FireRunnerError
from firerunner.hosting import opened
from firerunner.ledger import HostOrder, HostUse, MachineRecord
from firerunner.machines.spec import Resources
from firerunner.settings import HostSettings, Settings

UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class HostView:
    """One line of `firerunner hosts`."""

    name: str
    driver: str
    state: str
    """What an operator said of it (`normal`, `cordoned`, `draining`), or `unreachable`."""
    why: str
    machines: int
    jobs: int
    """Machines that have a job."""
    used: Resources
    """What machines hold, also those that are being made or unmade."""
    room: Resources | None
    """What is given out; None if the host does not tell."""
    labels: dict[str, str]


async def hosts_now(settings: Settings) -> list[HostView]:
    """All hosts, in the order of the configuration. Raises FireRunnerError if there is no ledger."""
    async with existing_ledger(settings) as ledger:
        machines = await ledger.machines()
        orders = await ledger.host_orders()
    looks = (
        _look(settings, host, [m for m in machines if m.host == host.name], orders.get(host.name))
        for host in settings.hosts
    )
    return list(await asyncio.gather(*looks))


async def _look(
    settings: Settings, host: HostSettings, machines: Collection[MachineRecord], order: HostOrder | None
) -> HostView:
    use, why = (order.use, order.reason) if order else (HostUse.NORMAL, "")
    room, state = None, str(use)
    try:
        async with opened(settings, host) as driver:
            room = await driver.capacity()
            problems = await driver.check()
        if problems:
            state, why = UNREACHABLE, problems[0].what
    except FireRunnerError as error:
        state, why = UNREACHABLE, error.message
    used = Resources(0, 0, 0)
    for machine in machines:
        if machine.room_held:
            used += machine.resources
    return HostView(
        name=host.name,
        driver=host.driver,
        state=state,
        why=why,
        machines=len(machines),
        jobs=sum(machine.job_id is not None for machine in machines),
        used=used,
        room=room,
        labels=host.labels,
    )
