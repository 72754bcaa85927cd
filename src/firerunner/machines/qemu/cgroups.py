"""Limits on a machine's processes by control groups, version 2 or 1, where the host offers them.

The groups lie at the top of each hierarchy, not below the controller's own: so a service manager that
ends everything in the controller's group leaves the machines running.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from firerunner.machines.spec import MACHINE_ID

TOP = "firerunner"
CONTROLLERS = ("memory", "pids", "cpu")
PERIOD_US = 100_000
MAX_TASKS = 512

SHARES_PER_CORE = 1024
"""Version 1 weighs all machines together like one process, unless their common group weighs more."""

RUNNING_WEIGHTS = (("cpu.weight", "21"), ("cpu.shares", "215"))
"""Of a machine whose guest is up, by version 2 and 1. They are to the 100 and 1024 with which it began as the
two nice values of `priority` to each other."""

MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one machine's keeper and QEMU may use together."""

    memory_mib: int
    cores: int
    """Whole host cores, by quota: one for each vCPU and one for QEMU's own work."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted cgroup hierarchy that we may write to, with those of our controllers it has."""

    mount: Path
    version: int
    controllers: tuple[str, ...]


def settings(hierarchy: Hierarchy, limits: Limits) -> tuple[tuple[str, str], ...]:
    """(file, text) to write into a machine's group of this hierarchy."""
    memory, quota = limits.memory_mib << 20, limits.cores * PERIOD_US
    table = {
        (2, "memory"): (("memory.max", f"{memory}"), ("memory.swap.max", "0")),
        (2, "pids"): (("pids.max", f"{MAX_TASKS}"),),
        (2, "cpu"): (("cpu.max", f"{quota} {PERIOD_US}"),),
        (1, "memory"): (("memory.limit_in_bytes", f"{memory}"),),
        (1, "pids"): (("pids.max", f"{MAX_TASKS}"),),
        (1, "cpu"): (("cpu.cfs_period_us", f"{PERIOD_US}"), ("cpu.cfs_quota_us", f"{quota}")),
    }
    return tuple(pair for name in hierarchy.controllers for pair in table[hierarchy.version, name])


def give_way(cgroup_procs: Sequence[str]) -> None:
    """The machine whose `make` gave these files comes after those that start, from now on."""
    for path in cgroup_procs:
        for name, text in RUNNING_WEIGHTS:
            with contextlib.suppress(OSError):  # not of this hierarchy
                (Path(path).with_name(name)).write_text(text)


def find_hierarchies(mountinfo: str) -> list[Hierarchy]:
    """The hierarchies in /proc/self/mountinfo that have a controller of ours and are writable."""
    found = []
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        mount, (kind, _source, options) = Path(fields.split()[4]), rest.split(" ", 2)
        if kind == "cgroup2":
            with contextlib.suppress(OSError):
                offered = (mount / "cgroup.controllers").read_text().split()
                found.append(Hierarchy(mount, 2, tuple(name for name in CONTROLLERS if name in offered)))
        elif kind == "cgroup":
            offered = options.split(",")
            found.append(Hierarchy(mount, 1, tuple(name for name in CONTROLLERS if name in offered)))
    return [each for each in found if each.controllers and os.access(each.mount, os.W_OK)]


class Cgroups:
    """The groups of one driver's machines: `TOP/tag/machine_id` in each hierarchy."""

    def __init__(self, tag: str, hierarchies: list[Hierarchy] | None = None) -> None:
        self._tag = tag
        if hierarchies is None:
            hierarchies = find_hierarchies(MOUNTINFO.read_text())
        self._hierarchies = hierarchies

    @property
    def offered(self) -> tuple[str, ...]:
        """The controllers that limit machines here; empty if the host offers none."""
        return tuple(name for each in self._hierarchies for name in each.controllers)

    def make(self, machine_id: str, limits: Limits) -> list[str]:
        """Make and set up the machine's groups; returns the files to write a process id to.

        A limit that the kernel refuses is left out: the host does not offer it after all.
        """
        procs = []
        for hierarchy in self._hierarchies:
            group = self._group(hierarchy, machine_id)
            try:
                self._make_group(hierarchy, group)
            except OSError:
                continue
            for name, text in settings(hierarchy, limits):
                with contextlib.suppress(OSError):
                    (group / name).write_text(text)
            procs.append(str(group / "cgroup.procs"))
        return procs

    def remove(self, machine_id: str, timeout_s: float = 5.0) -> bool:
        """Remove the machine's groups, and ours above when empty. False if one is still in use."""
        deadline = time.monotonic() + timeout_s
        done = True
        for hierarchy in self._hierarchies:
            group = self._group(hierarchy, machine_id)
            while not _rmdir(group):
                if time.monotonic() > deadline:
                    done = False
                    break
                time.sleep(0.01)
            with contextlib.suppress(OSError):
                group.parent.rmdir()
                group.parent.parent.rmdir()
        return done

    def machine_ids(self) -> set[str]:
        """Machines that have a group."""
        return {path.name for path in self._directories() if MACHINE_ID.fullmatch(path.name)}

    def _directories(self) -> Iterator[Path]:
        for hierarchy in self._hierarchies:
            with contextlib.suppress(OSError):
                yield from (hierarchy.mount / TOP / self._tag).iterdir()

    def _group(self, hierarchy: Hierarchy, machine_id: str) -> Path:
        return hierarchy.mount / TOP / self._tag / machine_id

    def _make_group(self, hierarchy: Hierarchy, group: Path) -> None:
        above = [hierarchy.mount, hierarchy.mount / TOP, group.parent]
        for _attempt in range(10):
            with contextlib.suppress(FileNotFoundError):  # `remove` took an empty parent away meanwhile
                for parent in above:
                    parent.mkdir(exist_ok=True)
                    if (
                        hierarchy.version == 1
                        and "cpu" in hierarchy.controllers
                        and parent != hierarchy.mount
                    ):
                        (parent / "cpu.shares").write_text(str(SHARES_PER_CORE * (os.cpu_count() or 1)))
                    if hierarchy.version == 2:
                        enable = " ".join(f"+{name}" for name in hierarchy.controllers)
                        (parent / "cgroup.subtree_control").write_text(enable)
                group.mkdir(exist_ok=True)
                return
        raise FileNotFoundError(str(group))


def _rmdir(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
