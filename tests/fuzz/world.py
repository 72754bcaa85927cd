"""The world that is fuzzed: the real service, three machines with jobs, and honest traffic all the while."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from firerunner.fakes.gitlab.model import Job
from firerunner.fakes.machines import Guest, Life, good_life
from firerunner.images import Image
from tests.fuzz.insider import sent_again
from tests.fuzz.items import Facts, Machine
from tests.fuzz.mutated import hook_body, signed
from tests.fuzz.wire import connected
from tests.scene.controllers import SECRET, ControllerProcess, Scene, scene
from tests.scene.guests import insist

HOOK_EVERY_S = 1.0
SAY_EVERY_S = 0.5
SOON_S = 5.0
"""An honest hook is answered within this time."""
SILENT_S = 30.0
"""An honest trace never stands still for longer."""


@dataclass
class Role:
    """One guest with its job, and what it has said."""

    name: str
    talks: bool
    """False: the fuzzer speaks for it, too."""
    job: Job | None = None
    guest: Guest | None = None
    told: str = ""
    longest_s: float = 0.0
    """Between two words that were accepted."""
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    there: asyncio.Event = field(default_factory=asyncio.Event)

    def life(self) -> Life:
        """Lives until it is stopped, tries again what fails, and ends well."""

        async def live(guest: Guest) -> None:
            await insist(guest.booted, {200})
            while (await insist(guest.ask, {201, 204})).status_code != 201:
                await asyncio.sleep(0.1)
            await insist(lambda: guest.update("running"), {200})
            self.guest = guest
            self.there.set()
            while not self.stop.is_set():
                await self._word(guest)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), SAY_EVERY_S if self.talks else 5.0)
            await insist(lambda: guest.update("success"), {200})
            await insist(guest.ended, {204})

        return live

    async def _word(self, guest: Guest) -> None:
        if not self.talks:
            with contextlib.suppress(httpx.HTTPError):
                await guest.update("running")
            return
        text, began = f"{self.name} works, word {len(self.told)}\n", time.monotonic()
        await insist(lambda: guest.say(text), {202})
        self.told += text
        self.longest_s = max(self.longest_s, time.monotonic() - began)

    def machine(self) -> Machine:
        """Once it is there."""
        assert self.guest is not None
        job = self.guest.job
        assert job is not None
        return Machine(self.guest.spec.machine_id, self.guest.spec.credential, job["id"], job["token"])


@dataclass
class World:
    """All of it."""

    scene: Scene
    roles: tuple[Role, ...]
    facts: Facts
    hooks_sent: int = 0
    hooks_slowest_s: float = 0.0
    hurt: list[str] = field(default_factory=list)

    @property
    def service(self) -> ControllerProcess:
        """The one that is fuzzed."""
        return self.scene.controllers[0]

    async def send_hooks(self) -> None:
        """Now and then one, as GitLab does, until cancelled."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            while True:
                await self.send_hook(http)
                await asyncio.sleep(HOOK_EVERY_S)

    async def send_hook(self, http: httpx.AsyncClient) -> None:
        """One that has to be accepted."""
        body = hook_body(self.scene.project.id, "pending" if self.hooks_sent % 2 else "success")
        shown = signed(self.facts.signing, f"msg_{secrets.token_hex(8)}", time.time(), body)
        headers = {b"X-Gitlab-Token": self.facts.secret.encode(), **shown}
        began = time.monotonic()
        try:
            answer = await asyncio.shield(
                http.post(
                    f"http://127.0.0.1:{self.facts.web}/webhook", content=body, headers=list(headers.items())
                )
            )
        except httpx.HTTPError as error:
            self.hurt.append(f"an honest hook was not answered: {error!r}")
            return
        took_s = time.monotonic() - began
        self.hooks_sent += 1
        self.hooks_slowest_s = max(self.hooks_slowest_s, took_s)
        if not answer.is_success or took_s > SOON_S:
            self.hurt.append(f"an honest hook got {answer.status_code} after {took_s:.1f} s")

    async def counted(self) -> dict[str, int]:
        """Webhook requests by outcome, as `/metrics` says."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            text = (await http.get(f"http://127.0.0.1:{self.facts.web}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith("firerunner_hooks_total{")]
        return {line.split('"')[1]: int(float(line.rpartition(" ")[2])) for line in lines}

    async def end(self) -> list[str]:
        """Let the honest jobs end, and one more run from its start to its end; what went wrong with them."""
        for role in self.roles:
            role.stop.set()
        self.scene.vmm.life = good_life
        lost: list[str] = []
        jobs = [role.job for role in self.roles if role.job] + await self.scene.run_jobs(1)
        with contextlib.suppress(AssertionError):
            await self.scene.ended(jobs, 60.0)
        lost += [
            f"job {job.id} ended {job.status} {job.failure_reason or ''}"
            for job in jobs
            if job.status != "success"
        ]
        lost += [f"job {job.id} was handed out {job.handed_out} times" for job in jobs if job.handed_out != 1]
        for role in self.roles:
            if role.talks and role.job and bytes(role.job.trace).decode() != role.told:
                lost.append(f"the trace of the {role.name} job is not what its runner said")
            if role.longest_s > SILENT_S:
                lost.append(f"the {role.name} job could not speak for {role.longest_s:.0f} s")
        return lost


@contextlib.asynccontextmanager
async def world(image: Image, program: tuple[str, ...] | None = None) -> AsyncIterator[World]:
    """With all three jobs running. `program`: what is run in place of `-m firerunner`."""
    signing = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    read, operate = secrets.token_hex(32), secrets.token_hex(32)
    more: dict[str, Any] = {
        "api": {"read_token": read, "operate_token": operate, "open_on_loopback": True},
        "webhook": {"trusted_proxies": ["127.0.0.1"]},
        "log": {"format": "json"},
    }
    roles = (Role("honest", True), Role("target", True), Role("insider", False))
    given = {"webhook_signing_token": signing}
    async with scene(None, image, 1, pool={"limit": len(roles)}, gitlab_more=given, more=more) as built:
        if program:
            built.controllers[0].program = program
        await built.start_all()
        for role in roles:
            built.vmm.life = role.life()
            (role.job,) = await built.run_jobs(1)
            await asyncio.wait_for(role.there.wait(), 60)
        controller = built.controllers[0]
        facts = Facts(
            web=controller.web,
            gate=controller.gate,
            secret=SECRET,
            signing=signing,
            read_token=read,
            operate_token=operate,
            honest=roles[0].machine(),
            target=roles[1].machine(),
            insider=roles[2].machine(),
            began=time.time(),
        )
        it = World(built, roles, facts)
        wire = await connected(facts.web)
        wire.send(sent_again(facts))
        await wire.answered(10)
        wire.abort()
        yield it
