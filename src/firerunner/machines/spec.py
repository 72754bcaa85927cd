"""The facts about one machine that a driver needs to make it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

MACHINE_ID = re.compile(r"fr-[a-z0-9]{12}")
"""Shape of a machine id. It is also the runner manager's `system_id` in GitLab, the guest's
host name, a directory name and part of a network namespace's name: keep it short and plain."""


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of room: virtual CPUs, MiB of memory, MiB of writable disk."""

    vcpu: int
    memory_mib: int
    disk_mib: int

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.vcpu + other.vcpu, self.memory_mib + other.memory_mib, self.disk_mib + other.disk_mib
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            self.vcpu - other.vcpu, self.memory_mib - other.memory_mib, self.disk_mib - other.disk_mib
        )

    def fits_in(self, room: Resources) -> bool:
        """True if all three amounts are there."""
        return (
            self.vcpu <= room.vcpu and self.memory_mib <= room.memory_mib and self.disk_mib <= room.disk_mib
        )


@dataclass(frozen=True, slots=True)
class Destination:
    """One TCP destination that a pool's guests may reach.

    `host` is the name or address as the guest uses it; `connect_to` is where the host's side
    really connects, when that differs (like curl's --connect-to).
    """

    host: str
    port: int
    connect_to: str | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """Every TCP destination of an IPv4 network, on one port or on all."""

    cidr: str
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Domain:
    """Every name below `parent`, on one port or on all; resolved on the host's side."""

    parent: str
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Internet:
    """Every public IPv4 address, on one port or on all, and DNS as the host has it."""

    port: int | None = None


Egress = Destination | Network | Domain | Internet
"""What a pool lets its guests reach besides the gate."""


@dataclass(frozen=True, slots=True)
class Published:
    """Where an image's parts are in a registry, each by its digest: `HOST/REPOSITORY@sha256:…`."""

    kernel: str
    """Kernel and initramfs."""
    root: str
    """The tree of the root file system."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An image's files on this computer, already checked against the manifest."""

    digest: str
    kernel: Path
    initramfs: Path
    root: Path
    """A read-only ext4 or squashfs file, shared by all machines of the image."""
    published: Published | None = None
    """None: it was not pushed anywhere from here."""


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Everything a driver gets to know. It holds nothing of GitLab and nothing of a job."""

    machine_id: str
    resources: Resources
    image: ImageFiles
    gate: str
    """`host:port` where the gate listens, as seen from the machine's host."""
    credential: str = field(repr=False)
    """The one-machine credential: worth one boot and one ask at the gate."""
    egress: tuple[Egress, ...] = ()
    restore: bool = False
    """Start from a saved state where the driver has a good one; else, and with False, boot."""
    max_lifetime_s: float = 7200.0
    """The watchdog outside the guest ends the machine after this many seconds, controller or not."""


class Started(StrEnum):
    """How a machine came to run."""

    COLD = "cold"  # it booted
    RESTORED = "restored"  # it went on from a saved state of its image


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a driver sees of one machine that carries our mark, known to the ledger or not."""

    machine_id: str
    alive: bool
    """True while the VMM runs. A machine that ended stays in the list until it is destroyed."""
    detail: str = ""
    """Why it ended, if it did: `guest reboot`, `VMM killed by signal 9`, `boot hung`, `lifetime over`."""
