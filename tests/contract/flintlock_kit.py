"""The flintlock driver for the contract suite: a fake Flintlock in a thread, with real microVMs behind it."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from anyio.from_thread import start_blocking_portal

from firerunner.fakes.flintlock import FakeFlintlock, QemuVmm
from firerunner.machines.flintlock.channel import Endpoint
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.driver import FlintlockDriver
from firerunner.machines.flintlock.request import Place
from firerunner.machines.spec import ImageFiles, MachineSpec, Published, Resources
from tests.contract.kits import LIFETIME_S, QemuKit

NAMESPACE = "contract"
PUBLISHED = Published(
    "registry.example.com/ci/firerunner@sha256:" + "1" * 64,
    "registry.example.com/ci/firerunner@sha256:" + "2" * 64,
)
ROOM = Resources(16, 65536, 65536)

CREATE_AND_DIE = """
import asyncio, os, pickle, signal, sys
from firerunner.machines.flintlock.channel import Endpoint
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.driver import FlintlockDriver
address, place, room, spec = pickle.loads(sys.stdin.buffer.read())
async def main():
    driver = FlintlockDriver(FlintlockClient(Endpoint(address, None)), place, room)
    await driver.create(spec)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@dataclass(slots=True)
class FlintlockKit:
    """One host, whose QEMUs are those of a `QemuKit`."""

    fake: FakeFlintlock
    below: QemuKit
    gate: str = "127.0.0.1:9"
    drivers: list[FlintlockDriver] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return Place(NAMESPACE, f"http://{self.gate}", None)

    def driver(self) -> FlintlockDriver:
        client = FlintlockClient(Endpoint(self.fake.address, None))
        self.drivers.append(Following(client, self.place, ROOM, kit=self))
        return self.drivers[-1]

    def spec(self, machine_id: str, gate: str = "127.0.0.1:9") -> MachineSpec:
        made = self.below.spec(machine_id, gate)
        image = replace(made.image, published=PUBLISHED)
        return replace(made, image=image, resources=Resources(1, 1024, 64))

    def create_and_die(self, spec: MachineSpec) -> None:
        place = replace(self.place, gate_url=f"http://{spec.gate}")
        said = pickle.dumps((self.fake.address, place, ROOM, spec))
        done = subprocess.run([sys.executable, "-c", CREATE_AND_DIE], input=said, check=False)
        assert done.returncode == -signal.SIGKILL

    def kill_vmm(self, machine_id: str) -> None:
        self.below.kill_vmm(machine_id)

    def forget(self, machine_id: str) -> None:
        """Nothing is written down outside Flintlock."""

    def leftovers(self) -> list[str]:
        return [record.spec.id for record in self.fake.records.values()] + self.below.leftovers()


class Following(FlintlockDriver):
    """Has the gate of each machine's specification, since each test has its own."""

    def __init__(self, client: FlintlockClient, place: Place, room: Resources, *, kit: FlintlockKit) -> None:
        super().__init__(client, place, room)
        self._kit = kit

    async def create(self, spec: MachineSpec) -> None:
        self._place = replace(self._place, gate_url=f"http://{spec.gate}")
        await super().create(spec)


@contextmanager
def flintlock(below: QemuKit, image: ImageFiles) -> Iterator[FlintlockKit]:
    vmm = QemuVmm(below.state_dir, {PUBLISHED.root: image}, max_lifetime_s=LIFETIME_S)
    fake = FakeFlintlock(vmm=vmm)
    with start_blocking_portal() as portal:
        portal.call(fake.start)
        try:
            yield FlintlockKit(fake, below)
        finally:
            portal.call(fake.__aexit__, None, None, None)
            portal.call(vmm.aclose)
