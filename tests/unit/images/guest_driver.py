"""Machines that are coroutines: they speak to the gate as a guest does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import httpx

from firerunner.machines.spec import MachineSpec, Resources, Sighting, Started

INFO = {"name": "gitlab-runner", "version": "1", "features": {"cancelable": True}}
Guest = Callable[["GuestDriver", MachineSpec], Awaitable[None]]


class GuestDriver:
    """The test says how its guests behave."""

    name = "guests"

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.machines: dict[str, asyncio.Task[None]] = {}
        self.created: list[MachineSpec] = []
        self.answers: list[httpx.Response] = []

    async def create(self, spec: MachineSpec) -> Started:
        self.created.append(spec)
        self.machines[spec.machine_id] = asyncio.create_task(self.guest(self, spec))  # type: ignore[arg-type]
        return Started.COLD

    async def destroy(self, machine_id: str) -> None:
        task = self.machines.pop(machine_id, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def list(self) -> list[Sighting]:
        return [Sighting(name, not task.done(), "guest reboot") for name, task in self.machines.items()]

    async def console(self, machine_id: str, max_bytes: int = 65536) -> bytes:
        return b"firerunner: 1.20 cannot boot: no /dev/vda"

    async def capacity(self) -> Resources:
        return Resources(1, 1, 1)

    async def aclose(self) -> None:
        pass

    async def say(self, spec: MachineSpec, path: str, credential: str, body: object = None) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"http://{spec.gate}/m/{spec.machine_id}/{path}",
                headers={"Authorization": f"Bearer {credential}"},
                json=body,
            )
        self.answers.append(answer)
        return answer


async def asks(driver: GuestDriver, spec: MachineSpec) -> None:
    await driver.say(spec, "guest/booted", spec.credential)
    await driver.say(spec, "api/v4/jobs/request", spec.credential, {"token": "t", "info": INFO})
    await asyncio.sleep(600)
