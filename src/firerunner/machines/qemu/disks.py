"""Where the machines' writable disks are, and how much space is left there.

Without a directory of its own each disk is with its machine. With one, it is found by its name alone, so
that a disk whose machine's directory was lost is removed as well.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from firerunner.errors import HostUnusable
from firerunner.machines.qemu.checks import CHECK_REMEDY, CHILD_ENVIRONMENT, find_program
from firerunner.machines.spec import MACHINE_ID

DISK_FILE = "disk.raw"
_SUFFIX = ".raw"

MKFS_OPTIONS = (
    *("-q", "-F"),
    *("-O", "^has_journal,metadata_csum,metadata_csum_seed"),
    *("-E", "lazy_itable_init=1,lazy_journal_init=1"),
)
"""A journal protects a disk over crashes; this one does not live that long. With a seed for its checksums it
can be given another UUID while it is mounted (tune2fs(8))."""


class Disks:
    """The disks of one state directory; `tag` tells them from those of another in the same place."""

    def __init__(self, machines: Path, disk_dir: Path | None, tag: str, keep_free_mib: int) -> None:
        self._machines = machines
        self._apart = None if disk_dir is None else (disk_dir / f"firerunner-{tag}").absolute()
        self._keep_free_mib = keep_free_mib

    def path(self, machine_id: str) -> Path:
        """Where this machine's disk is or will be."""
        if self._apart is None:
            return self._machines / machine_id / DISK_FILE
        return self._apart / f"{machine_id}{_SUFFIX}"

    def prepare(self) -> None:
        """Make the directory of the disks. Raises HostUnusable."""
        if self._apart is None:
            return
        try:
            self._apart.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HostUnusable(
                f"the disks' directory {self._apart} cannot be made: {error.strerror}",
                remedy="Mend `disk_dir` of the host",
            ) from error

    def make(self, machine_id: str, disk_mib: int) -> None:
        """Make the machine's disk, an empty file system. Raises HostUnusable."""
        path = self.path(machine_id)
        with path.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(disk_mib << 20)
        done = subprocess.run(
            [find_program("mkfs.ext4") or "mkfs.ext4", *MKFS_OPTIONS, str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env=CHILD_ENVIRONMENT,
        )
        if done.returncode != 0:
            raise HostUnusable(f"mkfs.ext4 failed: {done.stderr.strip()}", remedy=CHECK_REMEDY)

    def copy(self, machine_id: str, content: int) -> None:
        """Make the machine's disk, with what is in this file; only what is not empty takes time and room.

        Raises HostUnusable.
        """
        path = self.path(machine_id)
        try:
            with path.open("wb") as file:
                os.fchmod(file.fileno(), 0o600)
                copy_sparse(content, file.fileno())
        except OSError as error:
            raise HostUnusable(
                f"the disk {path} cannot be made: {error.strerror}",
                remedy="Make room there, or set the host's `disk_dir`",
            ) from error

    def read(self, machine_id: str, content: int) -> None:
        """Have in this file what is on the machine's disk. Raises OSError."""
        with self.path(machine_id).open("rb") as file:
            copy_sparse(file.fileno(), content)

    def machine_ids(self) -> set[str]:
        """Machines of which a disk is there, apart from their directories."""
        if self._apart is None or not self._apart.is_dir():
            return set()
        names = {path.stem for path in self._apart.glob(f"*{_SUFFIX}")}
        return {name for name in names if MACHINE_ID.fullmatch(name)}

    def remove(self, machine_id: str) -> None:
        """The machine's disk is gone afterwards."""
        self.path(machine_id).unlink(missing_ok=True)

    def free_mib(self) -> int:
        """What is free where the disks are, in MiB."""
        place = self._apart or self._machines
        files = os.statvfs(next(path for path in (place, *place.parents) if path.exists()))
        return (files.f_bavail * files.f_frsize) >> 20

    def taken_mib(self) -> int:
        """What the disks take now; they are sparse."""
        if self._apart is None:
            found = self._machines.glob(f"*/{DISK_FILE}")
        else:
            found = self._apart.glob(f"*{_SUFFIX}")
        return sum(_bytes_on_disk(path) for path in found) >> 20

    def check(self) -> None:
        """Raise HostUnusable while less is free than is to be kept free."""
        free_mib = self.free_mib()
        if free_mib < self._keep_free_mib:
            place = self._apart or self._machines
            raise HostUnusable(
                f"{place} has {free_mib} MiB free, and {self._keep_free_mib} MiB are to be kept free",
                remedy="Make room there, or set the host's `disk_dir` or `keep_free_mib`",
            )


def copy_sparse(source: int, target: int) -> None:
    """Have in one file what is in the other, without its holes. Raises OSError."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    for at, end in extents(source, size):
        os.lseek(target, at, os.SEEK_SET)
        sent = 0
        while at + sent < end:
            sent += os.sendfile(target, source, at + sent, end - at - sent)


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each part in which something may be (lseek(2))."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at


def _bytes_on_disk(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0
