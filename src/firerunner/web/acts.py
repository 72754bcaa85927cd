"""What operators do, by API or dashboard: written into the journal first, with who and why, then done."""

from __future__ import annotations

from enum import StrEnum

import structlog

from firerunner.ledger import OPEN_JOBS, HostUse
from firerunner.web.access import Caller
from firerunner.web.models import Done
from firerunner.web.operations import Operations
from firerunner.web.refusals import Refusal

OPERATOR = "operator"
"""The journal's word for what an operator did; the subject is the host, the machine or the job."""


class HostAct(StrEnum):
    """What an operator may do with a host."""

    CORDON = "cordon"
    UNCORDON = "uncordon"
    DRAIN = "drain"
    BELIEVE = "believe"


DESTROY = "destroy"
CANCEL = "cancel"

_USES = {
    HostAct.CORDON: HostUse.CORDONED,
    HostAct.UNCORDON: HostUse.NORMAL,
    HostAct.DRAIN: HostUse.DRAINING,
}


class Acts:
    """Each raises Refusal for what there is not. What cannot be written down is not done: LedgerError."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._log = structlog.get_logger("firerunner.api")

    async def to_host(self, act: HostAct, host: str, by: Caller, reason: str) -> Done:
        """Cordon, uncordon, drain or believe."""
        ledger = self._operations.ledger
        if host not in self._operations.host_names():
            raise Refusal(404, "there is no host of that name in the configuration")
        done = await self._audited(act, host, by, reason)
        if act in _USES:
            await ledger.use_host(host, _USES[act], "" if act is HostAct.UNCORDON else reason)
        else:
            await ledger.believe_host(host)
        return done

    async def destroy(self, machine_id: str, by: Caller, reason: str) -> Done:
        """Give a machine up."""
        if await self._operations.ledger.machine(machine_id) is None:
            raise Refusal(404, "there is no machine of that id (any more)")
        done = await self._audited(DESTROY, machine_id, by, reason)
        await self._operations.destroy(machine_id, f"destroyed by an operator ({reason})")
        return done

    async def cancel(self, job_id: int, by: Caller, reason: str) -> Done:
        """Cancel a job in GitLab. Raises GitLabError too."""
        job = await self._operations.ledger.job(job_id)
        if job is None:
            raise Refusal(404, "there is no job of that number (any more)")
        if job.state not in OPEN_JOBS:
            raise Refusal(409, "the job is over")
        done = await self._audited(CANCEL, str(job_id), by, reason)
        await self._operations.cancel(job)
        return done

    async def _audited(self, act: str, target: str, by: Caller, reason: str) -> Done:
        detail = {"who": by.fingerprint, "client": by.address, "target": target, "reason": reason}
        number = await self._operations.ledger.note(OPERATOR, target, act, detail)
        self._log.info("an operator acts", act=act, **detail)
        return Done(act=act, target=target, journal=number)
