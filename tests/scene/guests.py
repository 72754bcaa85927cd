"""A VMM whose guests are coroutines of this process: real metadata in, real HTTP to the gate, no QEMU."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from firerunner.fakes.flintlock.records import Record
from firerunner.fakes.machines import Guest, Life, good_life
from firerunner.guest.boot import BootParameters
from firerunner.machines.flintlock.request import BOOT_ITEM
from firerunner.machines.spec import ImageFiles, MachineSpec, Resources

_NOWHERE = Path("/nonexistent")


@dataclass(slots=True)
class GuestVmm:
    """Satisfies `firerunner.fakes.flintlock.vmm.Vmm`."""

    life: Life = good_life
    """What the next guests do."""
    booted: list[str] = field(default_factory=list)
    """Machine ids, once for each start."""
    credentials: list[str] = field(default_factory=list)
    """What they were given, in the same order."""
    _lives: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _http: httpx.AsyncClient | None = None

    async def start(self, record: Record) -> None:
        """Its guest begins to live."""
        if self._http is None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            self._http = httpx.AsyncClient(timeout=330, trust_env=False, limits=limits)
        said = base64.b64decode(record.spec.metadata[BOOT_ITEM]).decode()
        boot = BootParameters.parse(said)
        spec = MachineSpec(
            machine_id=boot.machine_id,
            resources=Resources(record.spec.vcpu, record.spec.memory_in_mb, 1024),
            image=ImageFiles("0" * 64, _NOWHERE, _NOWHERE, _NOWHERE),
            gate=boot.gate_url.removeprefix("http://").partition("/")[0],
            credential=boot.credential,
        )
        self.booted.append(boot.machine_id)
        self.credentials.append(boot.credential)
        self._lives[record.uid] = asyncio.create_task(self._live(Guest(spec, self._http)))

    async def _live(self, guest: Guest) -> None:
        await self.life(guest)

    async def alive(self, record: Record) -> bool:
        """Whether its guest lives."""
        life = self._lives.get(record.uid)
        return life is not None and not life.done()

    async def remove(self, record: Record) -> None:
        """End it."""
        life = self._lives.pop(record.uid, None)
        if life is not None:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)

    async def aclose(self) -> None:
        """End all."""
        for life in self._lives.values():
            life.cancel()
        await asyncio.gather(*self._lives.values(), return_exceptions=True)
        if self._http is not None:
            await self._http.aclose()


def patient(seconds: float) -> Life:
    """A guest whose job takes so long, and whose runner tries again what fails, as gitlab-runner does."""

    async def live(guest: Guest) -> None:
        await insist(guest.booted, {200})
        while True:
            if (await insist(guest.ask, {201, 204})).status_code == 201:
                break
            await asyncio.sleep(0.2)
        await insist(lambda: guest.update("running"), {200})
        ends = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < ends:
            await insist(lambda: guest.say(f"{guest.spec.machine_id} works\n"), {202})
            await asyncio.sleep(0.5)
        await insist(lambda: guest.update("success"), {200})
        await insist(guest.ended, {204})

    return live


async def insist(call, accepted: set[int]) -> httpx.Response:  # type: ignore[no-untyped-def]
    """Until it is accepted, or the gate says for good that it will not be."""
    while True:
        try:
            response = await call()
        except httpx.HTTPError:
            await asyncio.sleep(0.3)
            continue
        if response.status_code in accepted:
            return response
        if response.status_code in {403, 410}:
            raise asyncio.CancelledError  # the machine is not wanted any more: its guest reboots
        await asyncio.sleep(0.3)
