"""What somebody on the host can do with a credential that a job has given away.

A credential is for the gate only, and there for one machine: its boot (spent), its ask, its end. While its
job runs, an ask is answered with nothing (204), and taken for a runner that has let its job go: the machine
is ended and its job reported. So a leaked credential can end the machine it belongs to, which its job can do
anyway, and nothing else; job calls need the job's token. Until the machine is unmade an ask is answered with
nothing; once it is gone the credential is worth nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable

import httpx

from firerunner.demo.stage import Stage
from firerunner.fakes.gitlab.model import Job
from firerunner.gate import GATE_SAYS
from firerunner.ledger import MachineState

WAIT_S = 240.0
POLL_S = 0.25
FLOOD, AT_ONCE = 2000, 8
TRACE_PATCH_BYTES = 8 * 1024 * 1024

Say = Callable[[str], None]


async def try_from_outside(stage: Stage, leaky: Job, other: str, say: Say) -> dict[str, str]:
    """All attempts with the credential in the job's trace, up to the end of its machine and after it."""
    gitlab = stage.gitlab
    await gitlab.wait_for(lambda: b"\nCREDENTIAL " in bytes(leaky.trace), WAIT_S)
    credential = gitlab.trace(leaky).partition("\nCREDENTIAL ")[2].split()[0]
    record = await stage.ledger.job(leaky.id)
    assert record is not None
    machine = record.machine_id or ""
    say(f"the credential of {machine} is known on the host")
    found: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=f"http://{stage.settings.listen.gate}", trust_env=False) as http:

        async def tried(name: str, method: str, path: str, token: str | None, secret: str = "") -> None:
            body = json.dumps({"token": token, "state": "running"}) if token is not None else "exit_code=0"
            headers = {"Job-Token": secret} if secret else {"Authorization": f"Bearer {credential}"}
            answer = await http.request(method, path, content=body, headers=headers, timeout=30)
            passed_on = answer.status_code >= 400 and GATE_SAYS not in answer.text
            found[name] = f"{answer.status_code}{' of GitLab' if passed_on else ''}"
            say(f"  {name}: {found[name]}")

        ask = f"/m/{machine}/api/v4/jobs/request"
        job = f"/m/{machine}/api/v4/jobs/{leaky.id}"
        await tried("outside-no-credential", "POST", ask, "")
        await tried("outside-made-up-credential", "POST", ask, "made-up")
        await tried("outside-other-machine", "POST", f"/m/{other}/api/v4/jobs/request", credential)
        await tried("outside-job-call", "PUT", job, credential, credential)
        own = [leaky.token] * FLOOD
        made_up = [f"made-up-{number}" for number in range(FLOOD)]
        for name, secrets in (("outside-flood", own), ("outside-flood-made-up", made_up)):
            found[name] = await _flood(http, job, secrets)
            say(f"  {name}: {found[name]}")
        found["outside-trace-too-large"] = await _long_trace(http, f"{job}/trace", leaky.token)
        await tried("outside-ask", "POST", ask, credential)
        await gitlab.wait_for_job(leaky, timeout_s=WAIT_S)
        await _until_gone(stage, machine)
        await tried("outside-ask-after-end", "POST", ask, credential)
        await tried("outside-booted-after-end", "POST", f"/m/{machine}/guest/booted", None)
        await tried("outside-ended-after-end", "POST", f"/m/{machine}/guest/ended", None)
        await tried("outside-job-call-after-end", "PUT", job, leaky.token, leaky.token)
    return found


async def _flood(http: httpx.AsyncClient, path: str, secrets: list[str]) -> str:
    """An update with each of the tokens, as fast as it goes; how often each status was answered."""
    room = asyncio.Semaphore(AT_ONCE)

    async def update(secret: str) -> int:
        body = json.dumps({"token": secret, "state": "running"})
        async with room:
            answer = await http.put(path, content=body, headers={"Job-Token": secret}, timeout=60)
        return answer.status_code

    statuses = Counter(await asyncio.gather(*map(update, secrets)))
    return ",".join(f"{status}:{count}" for status, count in sorted(statuses.items()))


async def _long_trace(http: httpx.AsyncClient, path: str, token: str) -> str:
    """One patch that is larger than any runner's."""
    content = b"x" * (TRACE_PATCH_BYTES + 1)
    headers = {"Job-Token": token, "Content-Range": f"0-{len(content) - 1}"}
    try:
        return str((await http.patch(path, content=content, headers=headers, timeout=60)).status_code)
    except httpx.TransportError:
        return "cut"


async def _until_gone(stage: Stage, machine_id: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            machine = await stage.ledger.machine(machine_id)
            if machine is None or machine.state is MachineState.GONE:
                return
            await asyncio.sleep(POLL_S)
