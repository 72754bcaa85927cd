"""Counts from outside what machines take and leave on this computer, besides what the demo counts."""

from __future__ import annotations

import hashlib
from pathlib import Path

from firerunner.machines.qemu.cgroups import MOUNTINFO, TOP, find_hierarchies

MIB = 1024 * 1024


def control_groups(state_dir: Path) -> list[str]:
    """Control groups of the machines of a state directory, and those above them."""
    tag = hashlib.sha256(str((state_dir / "machines").resolve()).encode()).hexdigest()[:8]
    return [
        str(path)
        for hierarchy in find_hierarchies(MOUNTINFO.read_text())
        for path in (hierarchy.mount / TOP).glob(f"{tag}/**/")
    ]


def network_namespaces() -> frozenset[str]:
    """The networks in which a process lives that we see; those without a process end by themselves."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.add(str((entry / "ns" / "net").readlink()))
            except OSError:
                continue
    return frozenset(found)


def console_bytes(state_dir: Path) -> int:
    """The longest that a machine's files beside its disk are together, now."""
    return max((_kept(each) for each in (state_dir / "machines").glob("fr-*")), default=0)


def _kept(machine: Path) -> int:
    total = 0
    for entry in machine.glob("*"):
        try:
            total += entry.stat().st_size if entry.suffix != ".raw" else 0
        except OSError:
            continue
    return total


def state_bytes(state_dir: Path) -> int:
    """How large ledger and journal are on disk."""
    return sum(entry.stat().st_size for entry in state_dir.glob("*") if entry.is_file())


def disk_bytes(state_dir: Path) -> int:
    """How much the machines' disks take now, in all."""
    total = 0
    for entry in (state_dir / "machines").glob("fr-*/disk.raw"):
        try:
            total += entry.stat().st_blocks * 512
        except OSError:
            continue
    return total
