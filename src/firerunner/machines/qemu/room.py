"""How much room this computer has for machines, and how much of it is taken."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from firerunner.errors import NoRoom
from firerunner.machines.qemu.disks import Disks
from firerunner.machines.spec import Resources

VCPU_PER_CORE = 2
SHARE_PERCENT = 80
"""Of memory and free disk, what machines may use when the operator does not say."""

MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the operator lets machines use in all; None for an amount that is to be measured."""

    vcpu: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None


def measure_capacity(disks: Disks, allowance: Allowance) -> Resources:
    """What machines may use in all, counting as free what their disks already take."""
    (total_kib,) = (
        int(line.split()[1]) for line in MEMINFO.read_text().splitlines() if line.startswith("MemTotal:")
    )
    disk_mib = disks.free_mib() + disks.taken_mib()
    return Resources(
        vcpu=allowance.vcpu or VCPU_PER_CORE * len(os.sched_getaffinity(0)),
        memory_mib=allowance.memory_mib or (total_kib >> 10) * SHARE_PERCENT // 100,
        disk_mib=allowance.disk_mib or disk_mib * SHARE_PERCENT // 100,
    )


def check_room(wanted: Resources, taken: Iterable[Resources], capacity: Resources) -> None:
    """Raise `NoRoom` if the wanted amount does not fit beside what is taken."""
    left = capacity - sum(taken, start=Resources(0, 0, 0))
    if not wanted.fits_in(left):
        raise NoRoom(
            f"no room for {_words(wanted)}: {_words(left)} left of {_words(capacity)}",
            remedy="Wait until a machine has ended, or give the host a larger capacity.",
        )


def _words(amount: Resources) -> str:
    return f"{amount.vcpu} vCPU, {amount.memory_mib} MiB memory, {amount.disk_mib} MiB disk"
