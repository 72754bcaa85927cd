"""A driver whose machines are coroutines: the guest contract and the runner protocol without a VM.

Each machine is one `Guest` that boots, asks the gate for its job, reports and ends, over real HTTP.
The test holds the driver and says how guests misbehave: never boot, die, hang, lie. Everything that
is slow about a real machine is gone; everything that FireRunner decides stays the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from firerunner.errors import HostUnreachable, HostUnusable, MachineError
from firerunner.machines.spec import Egress, ImageFiles, MachineSpec, Resources, Sighting, Started

Life = Callable[["Guest"], Awaitable[None]]
"""What a guest does between its VMM's start and its end."""


@dataclass(slots=True)
class Guest:
    """The inside of one machine: what PID 1 and its runner can say."""

    spec: MachineSpec
    http: httpx.AsyncClient
    job: dict[str, Any] | None = None
    trace_size: int = 0

    @property
    def base(self) -> str:
        """The gate as this guest reaches it."""
        return f"http://{self.spec.gate}/m/{self.spec.machine_id}"

    async def booted(self) -> httpx.Response:
        """PID 1's first word."""
        return await self._say("booted")

    async def ended(self, exit_code: int = 0) -> httpx.Response:
        """PID 1's last word."""
        return await self._say("ended", f"exit_code={exit_code}")

    async def _say(self, word: str, body: str = "") -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.spec.credential}"}
        return await self.http.post(f"{self.base}/guest/{word}", headers=headers, content=body)

    async def ask(self) -> httpx.Response:
        """The runner's ask. A job in the answer is kept in `job`."""
        response = await self.http.post(
            f"{self.base}/api/v4/jobs/request",
            headers={"RUNNER-TOKEN": self.spec.credential},
            json={"token": self.spec.credential, "info": {}, "system_id": "s_guest"},
        )
        if response.status_code == 201:
            self.job = response.json()
        return response

    async def update(self, state: str, **more: Any) -> httpx.Response:
        """`PUT` of the job: running, success or failed."""
        job = self._job()
        return await self.http.put(
            f"{self.base}/api/v4/jobs/{job['id']}",
            headers={"JOB-TOKEN": job["token"]},
            json={"token": job["token"], "state": state, **more},
        )

    async def say(self, text: str) -> httpx.Response:
        """`PATCH` of the trace."""
        job, content = self._job(), text.encode()
        end = self.trace_size + len(content) - 1
        response = await self.http.patch(
            f"{self.base}/api/v4/jobs/{job['id']}/trace",
            headers={"JOB-TOKEN": job["token"], "Content-Range": f"{self.trace_size}-{end}"},
            content=content,
        )
        if response.status_code == 202:
            self.trace_size += len(content)
        return response

    def _job(self) -> dict[str, Any]:
        if self.job is None:
            raise MachineError("the guest has no job yet")
        return self.job


async def good_life(guest: Guest) -> None:
    """Boot, run the one job to success, end."""
    await start(guest)
    await guest.say(f"hello from {guest.spec.machine_id}\n")
    await guest.update("success")
    await guest.ended()


async def start(guest: Guest) -> None:
    """Boot and take the one job, up to its first `PUT state=running`."""
    (await guest.booted()).raise_for_status()
    while (await guest.ask()).status_code != 201:
        await asyncio.sleep(0.05)
    await guest.update("running")


@dataclass(slots=True)
class _Machine:
    spec: MachineSpec
    life: asyncio.Task[None]
    killed: str = ""


@dataclass(slots=True)
class FakeDriver:
    """Satisfies `machines.driver.Driver`. The test turns the knobs."""

    room: Resources = field(default=Resources(8, 8192, 65536))
    life: Life = good_life
    """What the next guests do."""
    refuse: str = ""
    """If set, `create` fails with this."""
    never: str | None = None
    """Why no machine could ever be made."""
    down: bool = False
    """If set, nothing can be asked of the host; its guests live on."""
    blind: bool = False
    """If set, `list` shows nothing."""
    created: list[str] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)
    name: str = "fake"
    look_every_s: float = 1.0
    _machines: dict[str, _Machine] = field(default_factory=dict)
    _http: httpx.AsyncClient | None = None

    async def create(self, spec: MachineSpec) -> Started:
        """Start the guest's coroutine."""
        self._answer()
        if self.refuse:
            raise HostUnusable(self.refuse, remedy="turn the knob back")
        if spec.machine_id in self._machines:
            return Started.COLD
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=330, trust_env=False)
        self.created.append(spec.machine_id)
        life = asyncio.create_task(self._live(self.life, Guest(spec, self._http)))
        self._machines[spec.machine_id] = _Machine(spec, life)
        return Started.COLD

    def _answer(self) -> None:
        if self.down:
            raise HostUnreachable("the host does not answer", remedy="turn the knob back")

    def lose_power(self) -> None:
        """End the host with all its guests; nothing of them is left when it comes back."""
        self.down = True
        for machine in self._machines.values():
            machine.life.cancel()
        self._machines.clear()

    async def _live(self, life: Life, guest: Guest) -> None:
        await life(guest)

    def kill(self, machine_id: str) -> None:
        """End a machine as SIGKILL to its VMM does."""
        machine = self._machines[machine_id]
        machine.killed = "VMM killed by signal 9"
        machine.life.cancel()

    async def destroy(self, machine_id: str) -> None:
        """End a machine and forget it."""
        self._answer()
        machine = self._machines.pop(machine_id, None)
        if machine is not None:
            self.destroyed.append(machine_id)
            machine.life.cancel()
            await asyncio.gather(machine.life, return_exceptions=True)

    async def list(self) -> Sequence[Sighting]:
        """Machines that were made and not destroyed."""
        self._answer()
        if self.blind:
            return []
        return [
            Sighting(machine_id, alive=not machine.life.done(), detail=machine.killed or "guest reboot")
            for machine_id, machine in self._machines.items()
        ]

    async def console(self, machine_id: str, max_bytes: int = 65536) -> bytes:
        """There is no console."""
        return b""

    async def capacity(self) -> Resources:
        """As the test says."""
        return self.room

    def refusal(
        self, resources: Resources, egress: tuple[Egress, ...], image: ImageFiles | None = None
    ) -> str | None:
        """As the test says."""
        return self.never

    def guest_gate_url(self, machine_id: str) -> str:
        """Not used: these guests know the gate's own address."""
        return f"http://gate/m/{machine_id}"

    def hosts_entries(self, egress: tuple[Egress, ...]) -> Sequence[tuple[str, str]]:
        """None are needed."""
        return []

    async def aclose(self) -> None:
        """End all guests."""
        self.down = False
        for machine_id in list(self._machines):
            await self.destroy(machine_id)
        if self._http is not None:
            await self._http.aclose()
