"""From a machine's specification to the order for its keeper."""

from __future__ import annotations

import re
import secrets
import time
from pathlib import Path

from firerunner.errors import HostUnusable, MachineError
from firerunner.machines.qemu import egress, names
from firerunner.machines.qemu.command import Accelerator, Start, machine_command
from firerunner.machines.qemu.identity import identity_of
from firerunner.machines.qemu.order import Listener, Order, Saved
from firerunner.machines.qemu.resolver import name_servers
from firerunner.machines.qemu.uplink import uplink_of
from firerunner.machines.spec import ImageFiles, MachineSpec

PLAIN_TEXT = re.compile(r"[A-Za-z0-9._~-]{1,100}")
"""What may stand as a value in the boot parameters: no spaces, no quotes."""


NOTHING = "nobody\n"
"""What stands in the place of boot parameters where they come by the console."""

SEED_BYTES = 64
"""Twice what the kernel's generator can hold (drivers/char/random.c)."""


def make_order(
    spec: MachineSpec,
    directory: Path,
    *,
    disk: Path,
    qemu: str,
    accelerator: Accelerator,
    tsc_khz: int,
    cgroup_procs: list[str],
    nft: str | None,
    saved: Saved | None = None,
) -> Order:
    """Decide everything about the machine. Raises `MachineError` for a specification that makes no sense."""
    machine_id, resources = spec.machine_id, spec.resources
    if min(resources.vcpu, resources.memory_mib, resources.disk_mib) < 1:
        raise MachineError(
            f"{machine_id} would have {resources}", remedy="Give the pool at least 1 of each resource."
        )
    start = start_of(saved)
    listeners = () if start is Start.TEMPLATE else egress.listeners(spec.gate, spec.egress)
    uplink = uplink_of(spec.egress, listeners, nft)
    if uplink is not None and uplink.resolves:  # by TCP, for what does not fit into a datagram
        listeners += (Listener(egress.HOST_ADDRESS, names.PORT, name_servers()[0], names.PORT),)
    return Order(
        machine_id=machine_id,
        directory=str(directory),
        argv=machine_command(
            qemu,
            directory,
            accelerator,
            tsc_khz,
            vcpu=resources.vcpu,
            memory_mib=resources.memory_mib,
            start=start,
        ),
        kernel=str(spec.image.kernel),
        initramfs=str(spec.image.initramfs),
        root=str(spec.image.root),
        disk=str(disk),
        boot=boot_parameters(spec) if saved is None else NOTHING,
        woken_by=woken_by(spec) if saved is not None else "",
        host_address=egress.HOST_ADDRESS,
        guest_address=egress.GUEST_ADDRESS,
        listeners=list(listeners),
        names=dict(egress.hosts_entries(spec.egress)),
        uplink=uplink,
        identity=identity_of(machine_id, kvm=accelerator.kind == "kvm"),
        cgroup_procs=cgroup_procs,
        memory_limit_mib=memory_limit_mib(spec, accelerator),
        max_lifetime_s=spec.max_lifetime_s,
        saved=saved,
        facts={
            "resources": [resources.vcpu, resources.memory_mib, resources.disk_mib],
            "image": spec.image.digest,
            "accelerator": accelerator.kind,
            "start": start.name.lower(),
            "state": saved.key if saved is not None else None,
        },
    )


def start_of(saved: Saved | None) -> Start:
    """How a machine with this saved state, if any, comes to run."""
    if saved is None:
        return Start.COLD
    return Start.RESTORED if saved.restore else Start.TEMPLATE


def woken_by(spec: MachineSpec) -> str:
    """The line that a restored guest waits for: the three values, and what it would else have in common with
    its template, the time and random numbers."""
    values = (line.partition("=")[2] for line in boot_parameters(spec).splitlines())
    return f"{' '.join(values)} {int(time.time())} {secrets.token_hex(SEED_BYTES)}\n"


def memory_limit_mib(spec: MachineSpec, accelerator: Accelerator) -> int:
    """What the machine's processes may use: the guest's memory and QEMU's own."""
    return spec.resources.memory_mib + accelerator.overhead_mib


def boot_parameters(spec: MachineSpec) -> str:
    """The three values that the guest starts with, as lines of the fw_cfg file."""
    if not PLAIN_TEXT.fullmatch(spec.credential):
        raise MachineError(
            f"the credential of {spec.machine_id} is not plain text of at most 100 characters",
            remedy="Make it of letters, digits and ._~- only.",
        )
    gate_url = egress.guest_gate_url(spec.machine_id)
    return f"machine_id={spec.machine_id}\ngate_url={gate_url}\ncredential={spec.credential}\n"


def check_image(image: ImageFiles, *, other_user: bool) -> None:
    """Raise `HostUnusable` if QEMU's user could not read the image's files."""
    for path in (image.kernel, image.initramfs, image.root):
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise HostUnusable(
                f"image {image.digest}: {path} cannot be read: {error.strerror}",
                remedy="Build or pull the image again.",
            ) from error
        if other_user and not mode & 0o004:
            raise HostUnusable(
                f"image {image.digest}: {path} is not readable for the user that QEMU runs as",
                remedy=f"Run: chmod a+r {path}",
            )
