"""What operators do, by API or dashboard: written into the journal first, with who and why, then done."""

from __future__ import annotations

from enum import StrEnum

import structlog

from firerunner.errors import StaleWrite
from firerunner.gate.looking import is_held
from firerunner.ledger import OPEN_JOBS, HostUse
from firerunner.web.access import Caller
from firerunner.web.models import Done, Seen
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
RELEASE = "release"
LOOK = "look"

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

    async def release(self, machine_id: str, by: Caller, reason: str) -> Done:
        """End the hold of a machine."""
        await self._check_held(machine_id)
        done = await self._audited(RELEASE, machine_id, by, reason)
        try:
            await self._operations.ledger.release_hold(machine_id)
        except StaleWrite as error:
            raise _not_held() from error
        return done

    async def look(self, machine_id: str, script: str, by: Caller, reason: str) -> Seen:
        """Run a script on a held machine; what it prints is kept nowhere."""
        await self._check_held(machine_id)
        done = await self._audited(LOOK, machine_id, by, reason, script=script)
        seen = await self._operations.look(machine_id, script)
        return Seen(
            exit_code=seen.exit_code if seen else None,
            output=seen.output.decode("utf-8", "replace") if seen else "",
            journal=done.journal,
        )

    async def _check_held(self, machine_id: str) -> None:
        ledger = self._operations.ledger
        machine = await ledger.machine(machine_id)
        if machine is None:
            raise Refusal(404, "there is no machine of that id (any more)")
        if not is_held(machine, ledger.clock()):
            raise _not_held()

    async def _audited(self, act: str, target: str, by: Caller, reason: str, **more: str) -> Done:
        detail = {"who": by.fingerprint, "client": by.address, "target": target, "reason": reason, **more}
        number = await self._operations.ledger.note(OPERATOR, target, act, detail)
        self._log.info("an operator acts", act=act, **detail)
        return Done(act=act, target=target, journal=number)


def _not_held() -> Refusal:
    return Refusal(409, "this machine is not held, or not any more: see `firerunner hold list`")
