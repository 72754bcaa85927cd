"""What operators see and do by API and dashboard, out of the ledger, the settings and the controller."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping

from firerunner.control import KnownPools
from firerunner.control.failing import fail_machine
from firerunner.errors import GitLabError, NotLeader
from firerunner.gate.looking import Looks
from firerunner.gitlab import RestClient
from firerunner.leading import Term
from firerunner.ledger import HostOrder, HostUse, JobRecord, Ledger, MachineRecord
from firerunner.machines.driver import Driver
from firerunner.machines.spec import Resources
from firerunner.planning import PoolState, WarmState
from firerunner.settings import HostSettings, Settings
from firerunner.web import Fleet, Host, Operations, Pool, Size

LOOK_S = 75.0
"""Longer than a guest lets a script run."""


def operations(
    settings: Callable[[], Settings],
    ledger: Ledger,
    known: KnownPools,
    term: Callable[[], Term | None],
    drivers: Mapping[str, Driver],
    rest_if_any: Callable[[str], RestClient | None],
    looks: Looks,
) -> Operations:
    """For the API and the dashboard of this service. `settings` gives those in force, `term` what leads, if
    it is this one, `rest_if_any` the REST API of a GitLab that has an `api_token`."""

    async def hosts() -> list[Host]:
        return hosts_with(await ledger.machines(), await ledger.host_orders())

    async def pools() -> list[Pool]:
        return pools_with(await ledger.machines())

    async def fleet() -> Fleet:
        machines = await ledger.machines()
        orders, jobs = await ledger.host_orders(), await ledger.jobs()
        return Fleet(
            hosts_with(machines, orders), pools_with(machines), machines, jobs, leads=term() is not None
        )

    def hosts_with(machines: Collection[MachineRecord], orders: Mapping[str, HostOrder]) -> list[Host]:
        leads, there = term(), defaultdict[str, list[MachineRecord]](list)
        for machine in machines:
            there[machine.host].append(machine)
        rooms = leads.controller.shows.rooms() if leads else {}
        troubles = leads.context.host_troubles | leads.context.host_faults if leads else {}
        return [
            _host(
                host,
                there[host.name],
                orders.get(host.name) or HostOrder(HostUse.NORMAL, "", 0.0),
                troubles.get(host.name),
                rooms.get(host.name),
            )
            for host in settings().hosts
        ]

    def pools_with(machines: Collection[MachineRecord]) -> list[Pool]:
        leads = term()
        warm = leads.controller.shows.warm() if leads else {}
        unable = leads.sizing.reasons() if leads else {}
        silent = unable | leads.controller.shows.reasons() if leads else {}
        standing = leads.controller.shows.standing().pools if leads else {}
        states = dict.fromkeys(unable, PoolState.BLOCKED) | {name: at.state for name, at in standing.items()}
        made = Counter(machine.pool for machine in machines)
        at_work = Counter(machine.pool for machine in machines if machine.job_id is not None)
        return [
            Pool(
                name=pool.name,
                gitlab=pool.gitlab,
                image=pool.image,
                executor=pool.executor,
                resources=Size.model_validate(pool.resources),
                limit=pool.limit,
                warm_wished=state.wished,
                warm=state.waiting,
                warm_coming=state.coming,
                warm_fewer=state.fewer_because,
                machines=made[pool.name],
                jobs=at_work[pool.name],
                state=states.get(pool.name),
                silent=silent.get(pool.name),
            )
            for pool in known.declared()
            for state in [warm.get(pool.name, WarmState(0, 0, 0, None))]
        ]

    async def console(machine: MachineRecord, max_bytes: int) -> bytes:
        driver = drivers.get(machine.host)
        return b"" if driver is None else await driver.console(machine.machine_id, max_bytes)

    async def cancel(job: JobRecord) -> None:
        rest = rest_if_any(job.gitlab)
        if rest is None:
            raise GitLabError(
                f"gitlab {job.gitlab!r} has no api_token, so its jobs cannot be cancelled from here",
                remedy="cancel it in GitLab, or destroy its machine",
            )
        await rest.cancel_job(job.project_id, job.gitlab_job_id)

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
        fleet=fleet,
        console=console,
        destroy=destroy,
        cancel=cancel,
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
