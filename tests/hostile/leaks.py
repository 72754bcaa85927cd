"""Counts from outside what machines take and leave on this computer, besides what the demo counts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from firerunner.demo.leftovers import processes_of
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


def networks_of(directory: Path) -> set[str]:
    """The networks, other than ours, in which a process lives whose command line names `directory`."""
    return {_network(pid) for pid in processes_of(directory)} - {_network(os.getpid()), ""}


def lived_in(networks: set[str]) -> list[str]:
    """Those of them in which a process lives that we see; one without a process ends by itself."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return sorted(networks & {_network(pid) for pid in pids})


def _network(pid: int) -> str:
    try:
        return str(Path("/proc", str(pid), "ns", "net").readlink())
    except OSError:
        return ""


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
