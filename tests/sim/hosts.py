"""A host of the simulation: machines are coroutines that outlive the service, and the host has its moods."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from firerunner.errors import HostUnreachable, HostUnusable
from firerunner.fakes.machines import FakeDriver
from firerunner.machines.spec import Egress, ImageFiles, MachineSpec, Resources, Sighting, Started
from tests.sim.power import Power

NO_ANSWER = "no answer in time"


@dataclass
class Mood:
    """What is wrong with the host now. `bad`: the share of calls that fail, hang, or whose answer is lost."""

    seed: int
    bad: float = 0.0
    full: bool = False
    keeps: bool = False
    """It destroys nothing."""
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def next(self) -> str:
        """What becomes of the next call."""
        if self.full:
            return "full"
        kind = self._random.choice(["fails", "hangs", "lost"]) if self._random.random() < self.bad else "fine"
        self.done[kind] += 1
        return kind


class SimDriver:
    """Satisfies `machines.driver.Driver`, for one run of the service; the machines are the host's."""

    name = "sim"
    look_every_s = 1.0

    def __init__(self, host: FakeDriver, mood: Mood, power: Power) -> None:
        self._host, self._mood, self._power = host, mood, power

    async def create(self, spec: MachineSpec) -> Started:
        """Idempotent by machine id, as the protocol asks."""
        await self._power.point("create: before")
        kind = self._mood.next()
        if kind == "full":
            raise HostUnusable("no space left on device", remedy="free some")
        await self._trouble(kind, before=True)
        started = await self._host.create(spec)
        await self._trouble(kind, before=False)
        await self._power.point("create: after")
        return started

    async def destroy(self, machine_id: str) -> None:
        """Idempotent."""
        await self._power.point("destroy: before")
        kind = "fails" if self._mood.keeps else self._mood.next()
        await self._trouble(kind, before=True)
        await self._host.destroy(machine_id)
        await self._trouble(kind, before=False)
        await self._power.point("destroy: after")

    async def list(self) -> Sequence[Sighting]:
        """What is there."""
        await self._trouble(self._mood.next(), before=True)
        return await self._host.list()

    async def _trouble(self, kind: str, *, before: bool) -> None:
        if kind == "fails" and before:
            raise HostUnreachable("connection refused", remedy="wait")
        if kind == "hangs" and before:
            await asyncio.sleep(15.0)
            raise HostUnreachable(NO_ANSWER, remedy="wait")
        if kind == "lost" and not before:
            raise HostUnreachable(NO_ANSWER, remedy="wait")

    async def capacity(self) -> Resources:
        """All of it."""
        return await self._host.capacity()

    async def console(self, machine_id: str, max_bytes: int = 65536) -> bytes:
        """There is none."""
        return b""

    def refusal(
        self, resources: Resources, egress: tuple[Egress, ...], image: ImageFiles | None = None
    ) -> str | None:
        """It takes all."""
        return None

    def guest_gate_url(self, machine_id: str) -> str:
        """Where guests of the simulation find the gate."""
        return f"http://gate/m/{machine_id}"

    def hosts_entries(self, egress: tuple[Egress, ...]) -> Sequence[tuple[str, str]]:
        """None."""
        return []

    async def aclose(self) -> None:
        """The host goes on."""
