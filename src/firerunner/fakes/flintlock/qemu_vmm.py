"""Real microVMs behind the fake: QEMU in Firecracker's place, told what the metadata says.

Nothing is pulled: the root volume's reference names an image on this computer. What a guest of Firecracker
fetches from the metadata service comes by QEMU's own way here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path

from firerunner.errors import MachineError
from firerunner.fakes.flintlock.records import Record
from firerunner.fakes.flintlock.vmm import VmmError
from firerunner.machines.flintlock.request import BOOT_ITEM
from firerunner.machines.qemu import QemuDriver
from firerunner.machines.spec import ImageFiles, MachineSpec, Resources

DISK_MIB = 64


class QemuVmm:
    """Satisfies `vmm.Vmm` with machines of a state directory of its own."""

    def __init__(
        self,
        state_dir: Path,
        images: Mapping[str, ImageFiles],
        *,
        max_lifetime_s: float,
        disk_mib: int = DISK_MIB,
    ) -> None:
        """`images`: by the reference of their root volume."""
        self._images = images
        self._max_lifetime_s = max_lifetime_s
        self._disk_mib = disk_mib
        self._driver = QemuDriver(state_dir, accelerator="tcg")

    async def start(self, record: Record) -> None:
        """Boot it; a second time as well, as Flintlock does."""
        said = _boot_parameters(record)
        reference = record.spec.root_volume.source.container_source
        if reference not in self._images:
            raise VmmError(f"{reference}: not found")
        spec = MachineSpec(
            machine_id=said["machine_id"],
            resources=Resources(record.spec.vcpu, record.spec.memory_in_mb, self._disk_mib),
            image=self._images[reference],
            gate=said["gate_url"].split("/")[2],
            credential=said["credential"],
            max_lifetime_s=self._max_lifetime_s,
        )
        try:
            await self._driver.destroy(spec.machine_id)
            await self._driver.create(spec)
        except MachineError as error:
            raise VmmError(str(error)) from error

    async def alive(self, record: Record) -> bool:
        """Whether its QEMU runs."""
        machine_id = _boot_parameters(record)["machine_id"]
        return any(seen.alive for seen in await self._driver.list() if seen.machine_id == machine_id)

    async def remove(self, record: Record) -> None:
        """End QEMU and remove the disk."""
        await self._driver.destroy(_boot_parameters(record)["machine_id"])

    async def aclose(self) -> None:
        """Wait for calls under way."""
        await self._driver.aclose()


def _boot_parameters(record: Record) -> dict[str, str]:
    text = base64.b64decode(record.spec.metadata[BOOT_ITEM]).decode()
    return dict(line.split("=", 1) for line in text.splitlines())
