"""Makes the initramfs: busybox, the kernel modules that a boot needs, the guest's two boot stages.

It is not compressed: unpacking costs more under emulation than loading a few MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from firerunner.guest.scripts import GuestScript
from firerunner.images.cpio import Entry, archive
from firerunner.images.kernel import unsigned
from firerunner.images.renewal import renewal_program

MODULES: Final = (
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "overlay",
    "virtio-rng",
    "qemu_fw_cfg",
)
"""What `init.sh` loads, without dependencies; the order in the script is the one that counts."""

APPLETS: Final = (
    "cat",
    "chmod",
    "cp",
    "grep",
    "insmod",
    "ip",
    "ln",
    "mkdir",
    "mkfifo",
    "mount",
    "reboot",
    "rm",
    "sed",
    "sleep",
    "stty",
    "switch_root",
    "wget",
)
_DIRECTORIES: Final = ("base", "bin", "dev", "disk", "modules", "new", "proc", "sys")


def initramfs(busybox: bytes, modules: Mapping[str, bytes]) -> bytes:
    """The archive for the kernel. The same input gives the same bytes."""
    scripts = (
        Entry.file("init", GuestScript.INIT.read(), 0o755),
        Entry.file("boot-source.sh", GuestScript.BOOT_SOURCE.read()),
        Entry.file("dhcp.sh", GuestScript.DHCP.read(), 0o755),
        Entry.file("pid1.sh", GuestScript.PID1.read(), 0o755),
        Entry.file("renew", renewal_program(), 0o755),
    )
    return archive(
        (
            *(Entry.directory(name) for name in _DIRECTORIES),
            Entry.file("bin/busybox", busybox, 0o755),
            *(Entry.symlink(f"bin/{applet}", "busybox") for applet in ("sh", *APPLETS)),
            *(
                Entry.file(f"modules/{name}.ko", unsigned(content))
                for name, content in sorted(modules.items())
            ),
            *scripts,
        )
    )
