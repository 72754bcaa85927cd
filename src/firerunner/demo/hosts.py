"""Hosts for the demo: fake Flintlocks on this computer, with real microVMs, that can lose their power."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firerunner.fakes.flintlock import FakeFlintlock, QemuVmm
from firerunner.fakes.flintlock.qemu_vmm import OUTSIDE
from firerunner.machines.spec import ImageFiles, Published

PUBLISHED = Published(
    f"registry.test/firerunner/demo@sha256:{'1' * 64}", f"registry.test/firerunner/demo@sha256:{'2' * 64}"
)
"""There is no registry: the fakes take these for names of the demo's own image."""

RESYNCS_PER_10_MIN = 20


@dataclass(frozen=True, slots=True)
class Host:
    """One fake host."""

    flintlock: FakeFlintlock
    vmm: QemuVmm
    directory: Path

    async def cut_power(self) -> None:
        """The daemon and all machines end at once; records and disks stay."""
        await self.flintlock.die()
        for record in self.flintlock.records.values():
            if await self.vmm.alive(record):
                self.vmm.kill(record)

    async def restore(self) -> None:
        """It comes back, and Flintlock starts what had ended, from dirty disks."""
        await self.flintlock.start()


@dataclass(frozen=True, slots=True)
class Hosts:
    """All of them, by name."""

    by_name: Mapping[str, Host]

    def described(self, gate_port: int) -> list[dict[str, Any]]:
        """The `hosts` of the configuration."""
        return [
            {
                "name": name,
                "driver": "flintlock",
                "address": host.flintlock.address,
                "insecure": True,
                "gate_url": f"http://{OUTSIDE}:{gate_port}",
                "vcpu": 4,
                "memory_mib": 4096,
                "disk_mib": 8192,
            }
            for name, host in self.by_name.items()
        ]

    def let_through(self, *ports: int) -> None:
        """What guests may reach on this computer."""
        for host in self.by_name.values():
            host.vmm.open.update({port: f"127.0.0.1:{port}" for port in ports})

    def files(self) -> list[Path]:
        """Directories of machines that are still there."""
        return [path for host in self.by_name.values() for path in host.directory.glob("vm/*/*/*")]


@contextlib.asynccontextmanager
async def open_hosts(directory: Path, count: int, image: ImageFiles) -> AsyncIterator[Hosts]:
    """So many hosts, and afterwards none."""
    async with contextlib.AsyncExitStack() as stack:
        hosts = {}
        for number in range(1, count + 1):
            place = directory / f"kvm-{number}"
            vmm = QemuVmm(place, {PUBLISHED.root: image})
            stack.push_async_callback(vmm.aclose)
            flintlock = await stack.enter_async_context(FakeFlintlock(vmm=vmm, pace=RESYNCS_PER_10_MIN))
            hosts[f"kvm-{number}"] = Host(flintlock, vmm, place)
        yield Hosts(hosts)
