"""What the suite must be able to do with a driver besides the protocol: one kit for each driver."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from firerunner.machines.driver import Driver
from firerunner.machines.qemu import QemuDriver
from firerunner.machines.spec import ImageFiles, MachineSpec, Resources, Started
from tests.contract import outside

LIFETIME_S = 120.0
"""Should the test run itself be killed, its machines end by themselves."""


class Kit(Protocol):
    """Makes drivers for one host of a test's own, breaks machines, and counts what is left."""

    root_is_shared: bool
    """Guests cannot write to the root file system; else each has its own."""

    def driver(self) -> Driver:
        """A driver as a newly started controller would have it."""
        ...

    def spec(self, machine_id: str, gate: str = "127.0.0.1:9") -> MachineSpec:
        """A small machine with the test guest."""
        ...

    def create_and_die(self, spec: MachineSpec) -> None:
        """Create the machine in a process that is then killed with SIGKILL."""
        ...

    def kill_vmm(self, machine_id: str) -> None:
        """SIGKILL to the VMM."""
        ...

    def forget(self, machine_id: str) -> None:
        """Lose what the driver has written down of the machine, but not the machine."""
        ...

    def leftovers(self) -> list[str]:
        """Everything that is there of any machine, seen from outside."""
        ...


class ReadyDriver(QemuDriver):
    """Restores each machine that is to be: it waits until there is a state, which the driver itself never
    does."""

    async def create(self, spec: MachineSpec) -> Started:
        await self.save_state(spec.image, spec.resources)
        started = await super().create(spec)
        assert started is Started.RESTORED
        return started


@dataclass(slots=True)
class QemuKit:
    """The qemu driver by emulation, with a state directory of the test's own."""

    state_dir: Path
    image: ImageFiles
    root_is_shared: bool = True
    machine_ids: set[str] = field(default_factory=set)
    namespaces: set[str] = field(default_factory=set)
    makes: type[QemuDriver] = QemuDriver
    restore: bool = False
    drivers: list[QemuDriver] = field(default_factory=list)

    def driver(self, **settings: object) -> QemuDriver:
        driver = self.makes(self.state_dir, accelerator="tcg", **settings)  # type: ignore[arg-type]
        self.drivers.append(driver)
        return driver

    async def clear(self) -> None:
        """Every machine is destroyed, and every driver that was made is closed."""
        driver = self.driver()
        for machine_id in {each.machine_id for each in await driver.list()} | self.machine_ids:
            await driver.destroy(machine_id)
        for each in self.drivers:
            await each.aclose()

    def spec(self, machine_id: str, gate: str = "127.0.0.1:9") -> MachineSpec:
        self.machine_ids.add(machine_id)
        credential = f"credential-of-{machine_id}"
        return MachineSpec(
            machine_id, Resources(1, 128, 64), self.image, gate, credential, (), self.restore, LIFETIME_S
        )

    def create_and_die(self, spec: MachineSpec) -> None:
        code = (
            "import asyncio, os, pathlib, pickle, signal, sys\n"
            f"from {self.makes.__module__} import {self.makes.__qualname__} as Driver\n"
            "driver = Driver(pathlib.Path(sys.argv[1]), accelerator='tcg')\n"
            "asyncio.run(driver.create(pickle.loads(sys.stdin.buffer.read())))\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(self.state_dir)], input=pickle.dumps(spec), check=False
        )
        assert done.returncode == -signal.SIGKILL

    def vmm(self, machine_id: str) -> int:
        return outside.vmm_of(self._mark(machine_id))

    def keeper(self, machine_id: str) -> int:
        return outside.keeper_of(self._mark(machine_id))

    def kill_vmm(self, machine_id: str) -> None:
        os.kill(self.vmm(machine_id), signal.SIGKILL)

    def forget(self, machine_id: str) -> None:
        directory = self.state_dir / "machines" / machine_id
        directory.rename(self.state_dir / f"lost-{machine_id}")

    def note_namespaces(self) -> None:
        """Remember the network namespaces that machines live in now, to look for them later."""
        for pid in outside.processes_naming(f"{self.state_dir}/machines"):
            self.namespaces.add(outside.network_namespace(pid))
        self.namespaces.discard(outside.network_namespace(os.getpid()))

    def leftovers(self) -> list[str]:
        machines = self.state_dir / "machines"
        return [
            *outside.processes_naming(f"{machines}/").values(),
            *(str(path) for path in machines.glob("*")),
            *(str(path) for path in outside.control_groups(self.machine_ids)),
            *(f"{name}: {pid}" for name in self.namespaces for pid in outside.processes_in(name)),
        ]

    def _mark(self, machine_id: str) -> str:
        return f"{self.state_dir}/machines/{machine_id}"
