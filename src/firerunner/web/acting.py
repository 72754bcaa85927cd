"""The routes that act. Each act is written into the journal before it is done, with who wanted it and why."""

from __future__ import annotations

from enum import StrEnum

import structlog
from fastapi import APIRouter, Depends

from firerunner.ledger import HostUse
from firerunner.web.access import Caller
from firerunner.web.guard import By, only_json
from firerunner.web.holding import add_holding
from firerunner.web.models import Done, Why
from firerunner.web.operations import Operations
from firerunner.web.reading import MachineId
from firerunner.web.refusals import Refusal

OPERATOR = "operator"
"""The journal's word for what an operator did through the API; the subject is the host or the machine."""


class HostAct(StrEnum):
    """What an operator may do with a host."""

    CORDON = "cordon"
    UNCORDON = "uncordon"
    DRAIN = "drain"
    BELIEVE = "believe"


DESTROY = "destroy"

_USES = {
    HostAct.CORDON: HostUse.CORDONED,
    HostAct.UNCORDON: HostUse.NORMAL,
    HostAct.DRAIN: HostUse.DRAINING,
}


def create_acting(operations: Operations) -> APIRouter:
    """The router."""
    router, ledger = APIRouter(dependencies=[Depends(only_json)]), operations.ledger
    log = structlog.get_logger("firerunner.api")

    async def audited(act: str, target: str, by: Caller, reason: str, **more: str) -> Done:
        """The row in the journal. Raises LedgerError, and then nothing is done."""
        detail = {"who": by.fingerprint, "client": by.address, "target": target, "reason": reason, **more}
        number = await ledger.note(OPERATOR, target, act, detail)
        log.info("an operator acts", act=act, **detail)
        return Done(act=act, target=target, journal=number)

    async def done_to_host(act: HostAct, host: str, by: Caller, why: Why) -> Done:
        if host not in operations.host_names():
            raise Refusal(404, "there is no host of that name in the configuration")
        done = await audited(act, host, by, why.reason)
        if act in _USES:
            await ledger.use_host(host, _USES[act], "" if act is HostAct.UNCORDON else why.reason)
        else:
            await ledger.believe_host(host)
        return done

    @router.post("/hosts/{host}/cordon")
    async def cordon(host: str, why: Why, by: By) -> Done:
        """Let no new machine be made there, until `uncordon`. What is there goes on."""
        return await done_to_host(HostAct.CORDON, host, by, why)

    @router.post("/hosts/{host}/uncordon")
    async def uncordon(host: str, why: Why, by: By) -> Done:
        """Let machines be made there again."""
        return await done_to_host(HostAct.UNCORDON, host, by, why)

    @router.post("/hosts/{host}/drain")
    async def drain(host: str, why: Why, by: By) -> Done:
        """Empty it: no new machine, those without a job end now, jobs go on to their end."""
        return await done_to_host(HostAct.DRAIN, host, by, why)

    @router.post("/hosts/{host}/believe")
    async def believe(host: str, why: Why, by: By) -> Done:
        """Believe at once that the machines it shows no more are gone, however many they are."""
        return await done_to_host(HostAct.BELIEVE, host, by, why)

    @router.post("/machines/{machine_id}/destroy", status_code=202)
    async def destroy(machine_id: MachineId, why: Why, by: By) -> Done:
        """Give a machine up. A job that has been delivered is reported to GitLab as `runner_system_failure`;
        one that has not gets another machine. One that is on its way out goes on with that."""
        if await ledger.machine(machine_id) is None:
            raise Refusal(404, "there is no machine of that id (any more)")
        done = await audited(DESTROY, machine_id, by, why.reason)
        await operations.destroy(machine_id, f"destroyed by an operator ({why.reason})")
        return done

    add_holding(router, operations, audited)
    return router
