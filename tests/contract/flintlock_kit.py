"""The flintlock driver for the contract suite: a fake Flintlock in a thread, with real microVMs behind it."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from firerunner.fakes.flintlock import FakeFlintlock, QemuVmm
from firerunner.fakes.flintlock.qemu_vmm import OUTSIDE
from firerunner.machines.flintlock.channel import Endpoint
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.driver import FlintlockDriver
from firerunner.machines.flintlock.request import Place, machine_of
from firerunner.machines.spec import ImageFiles, MachineSpec, Published, Resources, Started
from tests.contract import outside

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
    """One host, whose microVMs are QEMU's."""

    fake: FakeFlintlock
    vmm: QemuVmm
    state_dir: Path
    image: ImageFiles
    root_is_shared: bool = False
    drivers: list[FlintlockDriver] = field(default_factory=list)

    def place(self, gate: str) -> Place:
        """The gate's port is open to guests, under the name that they have for this computer."""
        port = gate.partition(":")[2]
        self.vmm.open[int(port)] = gate
        return Place(NAMESPACE, f"http://{OUTSIDE}:{port}", None)

    def driver(self) -> FlintlockDriver:
        self.drivers.append(Following(Endpoint(self.fake.address, None), self.place))
        return self.drivers[-1]

    def spec(self, machine_id: str, gate: str = "127.0.0.1:9") -> MachineSpec:
        image = replace(self.image, published=PUBLISHED)
        return MachineSpec(machine_id, Resources(1, 1024, 64), image, gate, f"credential-of-{machine_id}")

    def create_and_die(self, spec: MachineSpec) -> None:
        said = pickle.dumps((self.fake.address, self.place(spec.gate), ROOM, spec))
        done = subprocess.run([sys.executable, "-c", CREATE_AND_DIE], input=said, check=False)
        assert done.returncode == -signal.SIGKILL

    def kill_vmm(self, machine_id: str) -> None:
        for record in self.fake.records.values():
            if machine_of(record.spec.id) == machine_id:
                self.vmm.kill(record)

    def forget(self, machine_id: str) -> None:
        """Nothing is written down outside Flintlock."""

    def leftovers(self) -> list[str]:
        return [
            *(record.spec.id for record in self.fake.records.values()),
            *outside.processes_naming(f"{self.state_dir}/vm").values(),
            *(str(path) for path in (self.state_dir / "vm").glob("*/*/*")),
        ]


class Following(FlintlockDriver):
    """Has the gate of each machine's specification, since each test has its own."""

    def __init__(self, endpoint: Endpoint, place_of: Callable[[str], Place]) -> None:
        super().__init__(FlintlockClient(endpoint), place_of("127.0.0.1:9"), ROOM)
        self._place_of = place_of

    async def create(self, spec: MachineSpec) -> Started:
        self._place = self._place_of(spec.gate)
        return await super().create(spec)


@contextmanager
def flintlock(state_dir: Path, image: ImageFiles) -> Iterator[FlintlockKit]:
    vmm = QemuVmm(state_dir, {PUBLISHED.root: image}, disk_mib=16)
    fake = FakeFlintlock(vmm=vmm)
    with start_blocking_portal() as portal:
        portal.call(fake.start)
        try:
            yield FlintlockKit(fake, vmm, state_dir, image)
        finally:
            portal.call(fake.__aexit__, None, None, None)
            portal.call(vmm.aclose)
