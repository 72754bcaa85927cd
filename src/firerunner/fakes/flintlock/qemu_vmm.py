"""Real microVMs behind the fake: QEMU in Firecracker's place, booted from what the request says.

Kernel arguments, initramfs, metadata service and its network device, the guest's own network device with a
DHCP server behind it, and a root disk that is kept over a restart are as Flintlock and Firecracker give
them (reference: flintlock.md 5, 8). Nothing is pulled: the root volume's reference names an image on this
computer. Needs no privilege.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import shutil
import subprocess
import sys
import threading
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from firerunner.fakes.flintlock import metadata
from firerunner.fakes.flintlock.records import Record
from firerunner.fakes.flintlock.vmm import VmmError
from firerunner.machines.qemu.tsc import measure_tsc_khz
from firerunner.machines.spec import ImageFiles

OUTSIDE = "10.0.2.100"
"""What guests call this computer, for the ports that `QemuVmm.open` has."""

DISK_MIB = 1024
METADATA = "169.254.169.254"
METADATA_NET = "net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3,dhcpstart=169.254.0.15"

_FIRECRACKERS = ("console=ttyS0", "reboot=k", "panic=1", "i8042.noaux", "i8042.nomux", "i8042.dumbkbd")
"""Flintlock's defaults but `pci=off` and `ds=…`, which change nothing here."""
_QEMUS = ("panic=-1", "reboot=t", "no_timer_check", "cryptomgr.notests")
"""Last, so that they win: QEMU's microvm has no keyboard controller to reset by."""

_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")


class QemuVmm:
    """Satisfies `vmm.Vmm`. Guests reach the ports that are in `open`, and nothing else."""

    def __init__(
        self, state_dir: Path, images: Mapping[str, ImageFiles], *, disk_mib: int = DISK_MIB
    ) -> None:
        """`images`: by the reference of their root volume. `disk_mib`: devmapper's base_image_size."""
        self.open: dict[int, str] = {}
        """Port of `OUTSIDE` → where it leads, host:port. For machines that start from now on."""
        self._state_dir = state_dir
        self._images = images
        self._disk_mib = disk_mib
        self._making = threading.Lock()
        self._processes: dict[str, Process] = {}
        self._tsc_khz: int | None = None

    async def start(self, record: Record) -> None:
        """Boot it; a second time from the disk as it was left, as Flintlock does."""
        reference = record.spec.root_volume.source.container_source
        if reference not in self._images:
            raise VmmError(f"{reference}: not found")
        if self._tsc_khz is None:
            self._tsc_khz = await asyncio.to_thread(measure_tsc_khz)
        image, directory = self._images[reference], self.directory(record)
        await asyncio.to_thread(self._write, record, image, directory)
        with (directory / "firecracker.stdout").open("ab") as console:
            process = await asyncio.create_subprocess_exec(
                *_DIES_WITH_US, *self._command(record, image), stdin=DEVNULL, stdout=console, stderr=STDOUT
            )
        self._processes[record.uid] = process

    async def alive(self, record: Record) -> bool:
        """Whether its QEMU runs."""
        process = self._processes.get(record.uid)
        return process is not None and process.returncode is None

    async def remove(self, record: Record) -> None:
        """End QEMU and remove the disk."""
        process = self._processes.pop(record.uid, None)
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.to_thread(shutil.rmtree, self.directory(record), ignore_errors=True)

    def kill(self, record: Record) -> None:
        """SIGKILL to the VMM."""
        self._processes[record.uid].kill()

    def directory(self, record: Record) -> Path:
        """Where Flintlock would keep the machine's files."""
        spec = record.spec
        return self._state_dir / "vm" / spec.namespace / spec.id / record.uid

    async def aclose(self) -> None:
        """End what still runs, as a host without power does."""
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._processes.clear()
        await asyncio.to_thread(shutil.rmtree, self._state_dir, ignore_errors=True)

    def _write(self, record: Record, image: ImageFiles, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        items = {key: _decoded(value) for key, value in record.spec.metadata.items()}
        (directory / "metadata.json").write_text(json.dumps({"latest": items}))
        disk = directory / "disk"
        if not disk.exists():
            _copy(self._base(image), disk)

    def _base(self, image: ImageFiles) -> Path:
        """The image's root with room to write to, made once."""
        with self._making:
            base = self._state_dir / f"{image.digest}.base"
            if not base.exists():
                _copy(image.root, base)
                _grow(base, self._disk_mib)
            return base

    def _command(self, record: Record, image: ImageFiles) -> Sequence[str]:
        spec, directory = record.spec, self.directory(record)
        asked = [f"{key}={value}" if value else key for key, value in spec.kernel.cmdline.items()]
        arguments = [*_FIRECRACKERS, *asked, f"tsc_early_khz={self._tsc_khz}"]
        random.shuffle(arguments)  # Flintlock keeps them in a map
        server = f"{sys.executable} -I {metadata.__file__} {directory / 'metadata.json'}"
        first = f"user,id=eth0,restrict=on,{METADATA_NET},guestfwd=tcp:{METADATA}:80-cmd:{server}"
        doors = [
            f"guestfwd=tcp:{OUTSIDE}:{port}-cmd:socat - TCP:{leads_to}"
            for port, leads_to in self.open.items()
        ]
        return [
            *("qemu-system-x86_64", "-name", f"guest={spec.id}", "-machine", "microvm,acpi=on,rtc=on"),
            *("-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max"),
            *("-smp", str(spec.vcpu), "-m", str(spec.memory_in_mb)),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initramfs)),
            *("-append", " ".join([*arguments, *_QEMUS])),
            *("-blockdev", f"node-name=root,driver=file,cache.no-flush=on,filename={directory / 'disk'}"),
            *("-device", "virtio-blk-device,drive=root"),
            *("-netdev", first),
            *("-device", f"virtio-net-device,netdev=eth0,mac={spec.interfaces[0].guest_mac}"),
            *("-netdev", ",".join(["user,id=eth1,restrict=on", *doors])),
            *("-device", f"virtio-net-device,netdev=eth1,mac={spec.interfaces[-1].guest_mac}"),
            *("-device", "virtio-rng-device"),
        ]


def _decoded(value: str) -> str:
    """As Flintlock does: what is no base64 is taken as it is."""
    try:
        return base64.b64decode(value, validate=True).decode()
    except ValueError:
        return value


def _copy(source: Path, target: Path) -> None:
    """A copy that has the holes of its source."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)


def _grow(disk: Path, mib: int) -> None:
    """Make the file system on it so large."""
    with disk.open("r+b") as file:
        file.truncate(max(mib << 20, disk.stat().st_size))
    subprocess.run(["/sbin/resize2fs", "-f", disk], check=True, capture_output=True)
