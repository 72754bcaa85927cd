"""The API's routes that act."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from firerunner.web.acts import Acts, HostAct
from firerunner.web.guard import By, only_json
from firerunner.web.models import Done, Script, Seen, Why
from firerunner.web.reading import JobId, MachineId


def create_acting(acts: Acts) -> APIRouter:
    """The router."""
    router = APIRouter(dependencies=[Depends(only_json)])

    @router.post("/hosts/{host}/cordon")
    async def cordon(host: str, why: Why, by: By) -> Done:
        """Let no new machine be made there, until `uncordon`. What is there goes on."""
        return await acts.to_host(HostAct.CORDON, host, by, why.reason)

    @router.post("/hosts/{host}/uncordon")
    async def uncordon(host: str, why: Why, by: By) -> Done:
        """Let machines be made there again."""
        return await acts.to_host(HostAct.UNCORDON, host, by, why.reason)

    @router.post("/hosts/{host}/drain")
    async def drain(host: str, why: Why, by: By) -> Done:
        """Empty it: no new machine, those without a job end now, jobs go on to their end."""
        return await acts.to_host(HostAct.DRAIN, host, by, why.reason)

    @router.post("/hosts/{host}/believe")
    async def believe(host: str, why: Why, by: By) -> Done:
        """Believe at once that the machines it shows no more are gone, however many they are."""
        return await acts.to_host(HostAct.BELIEVE, host, by, why.reason)

    @router.post("/machines/{machine_id}/destroy", status_code=202)
    async def destroy(machine_id: MachineId, why: Why, by: By) -> Done:
        """Give a machine up. A job that has been delivered is reported to GitLab as `runner_system_failure`;
        one that has not gets another machine. One that is on its way out goes on with that."""
        return await acts.destroy(machine_id, by, why.reason)

    @router.post("/jobs/{job_id}/cancel", status_code=202)
    async def cancel(job_id: JobId, why: Why, by: By) -> Done:
        """Cancel a job in GitLab, which lets its `after_script` run. Needs the GitLab's `api_token`."""
        return await acts.cancel(job_id, by, why.reason)

    @router.post("/machines/{machine_id}/release", status_code=202)
    async def release(machine_id: MachineId, why: Why, by: By) -> Done:
        """End the hold of a machine that is kept for a look; it goes within a second."""
        return await acts.release(machine_id, by, why.reason)

    @router.post("/machines/{machine_id}/look")
    async def look(machine_id: MachineId, asked: Script, by: By) -> Seen:
        """Run a script on a held machine and wait for what it prints, a minute at most. The secrets of its
        job are there; what is printed may hold them, and is kept nowhere."""
        return await acts.look(machine_id, asked.script, by, asked.reason)

    return router
