"""Boots a pool's image once and has it fetch GitLab's sign-in page: is GitLab there for a guest, too?

The guest is told what every guest of the pool is told (hosts file, proxy, certificates) and has the pool's
egress. What runs is a job of ours, by the runner in the image. A service on this computer is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import string
import time
from dataclasses import replace

from firerunner.briefing import Briefing
from firerunner.errors import FireRunnerError
from firerunner.findings import Finding, Level
from firerunner.images import Image
from firerunner.ledger import MachineRecord, MachineState
from firerunner.machines.driver import Driver
from firerunner.machines.spec import MachineSpec, Resources
from firerunner.settings import PoolSettings, Settings
from firerunner.setup.guest_gate import GuestGate, open_gate

HOST = "check"
ROOM = Resources(1, 512, 512)
DOCKER_ROOM = Resources(1, 1024, 2048)
PATIENCE_S = 240.0
LOOK_S = 1.0
CONSOLE_BYTES = 600
FETCH_S = 30

_ALPHABET = string.ascii_lowercase + string.digits
_ANSWER = re.compile(r"firerunner-check (\d{3})\b")
_FAILURE = re.compile(r"curl: \(\d+\) .*")


async def check_guest(
    settings: Settings, pool: PoolSettings, image: Image, driver: Driver, *, patience_s: float = PATIENCE_S
) -> list[Finding]:
    """The findings. The machine is gone afterwards, also when cancelled."""
    subject = f"guest of pool {pool.name}"
    gitlab = settings.gitlab_of(pool)
    url = f"{gitlab.guest_url}/users/sign_in"
    plain = pool.model_copy(update={"gitlab": gitlab.name, "runner_config": None, "docker_daemon": {}})
    machine_id = "fr-" + "".join(secrets.choice(_ALPHABET) for _ in range(12))
    gate = GuestGate(machine_id, secrets.token_urlsafe(24), secrets.token_urlsafe(24), script(url))
    room = DOCKER_ROOM if image.manifest.docker else ROOM
    briefing = Briefing(lambda: settings, lambda name: plain, {HOST: driver})
    async with open_gate(gate):
        record = MachineRecord(
            machine_id=machine_id, pool=pool.name, host=HOST, state=MachineState.BOOTING, state_since=0.0,
            resources=room, image_digest=image.manifest.digest, created_at=0.0, gitlab=gitlab.name,
        )  # fmt: skip
        gate.facts = replace(briefing.guest_facts(record), docker_daemon={})
        spec = MachineSpec(
            machine_id=machine_id,
            resources=room,
            image=image.files,
            gate=gate.address,
            credential=gate.credential,
            egress=briefing.egress(plain),
            max_lifetime_s=patience_s + 30,
        )
        try:
            await driver.create(spec)
            await _until_finished(gate, driver, machine_id, patience_s)
            console = (await driver.console(machine_id, CONSOLE_BYTES)).decode(errors="replace")
        except FireRunnerError as error:
            return [Finding(Level.FAIL, subject, error.message, error.remedy)]
        finally:
            await asyncio.shield(driver.destroy(machine_id))
    return judge_guest(subject, gate, url, console)


def script(url: str) -> list[str]:
    """Says `firerunner-check` and the status, or what curl has against it."""
    quoted = url.replace("'", "'\\''")
    return [
        f"curl -sS -m {FETCH_S} -o /dev/null -w 'firerunner-check %{{http_code}}\\n' '{quoted}' 2>&1 || true"
    ]


def judge_guest(subject: str, gate: GuestGate, url: str, console: str) -> list[Finding]:
    """What the guest's words mean."""
    tail = " ".join(console.split())[-CONSOLE_BYTES:]
    if not gate.booted:
        what = f"it has not reached the gate; its console ends with: {tail or '(nothing)'}"
        return [Finding(Level.FAIL, subject, what, "Does `firerunner image build` record the image?")]
    if not gate.asked:
        what = f"its runner has not asked for a job; its console ends with: {tail or '(nothing)'}"
        return [Finding(Level.FAIL, subject, what, "Build the image anew")]
    findings = [Finding(Level.OK, subject, "it reaches the gate, and its runner takes a job")]
    log = gate.log.decode(errors="replace")
    answers = [int(code) for code in _ANSWER.findall(log)]
    failure = _FAILURE.search(log)
    status = answers[-1] if answers else 0
    if status in {407, 502, 503, 504}:
        what = f"{url} is answered with {status}: by a proxy, or GitLab is down"
        findings.append(Finding(Level.FAIL, subject, what, "Check the pool's `proxy`, and GitLab's health"))
    elif status:
        findings.append(Finding(Level.OK, subject, f"it reaches GitLab at {url} ({status})"))
    else:
        why = failure[0].strip() if failure else "no answer in time"
        findings.append(Finding(Level.FAIL, subject, f"it does not reach {url}: {why}", _remedy(why)))
    return findings


def _remedy(why: str) -> str:
    if "certificate" in why.lower() or "SSL" in why:
        return "Name GitLab's certificate authority in `gitlab.ca_file`; guests get it too"
    if "resolve" in why:
        return "The name is only known for what `egress` names: is `gitlab` in the pool's egress?"
    return "Is `gitlab` in the pool's `egress`, and `clone_url` an address that this host reaches?"


async def _until_finished(gate: GuestGate, driver: Driver, machine_id: str, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and not gate.finished.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(gate.finished.wait(), LOOK_S)
        sighting = next((seen for seen in await driver.list() if seen.machine_id == machine_id), None)
        if sighting is None or not sighting.alive:
            return
