"""Counts from outside what a run has left behind: processes, files, network devices."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Leftovers:
    """All of them have to be 0."""

    machines: int
    """Machines in the ledger that are not gone."""
    processes: int
    """Processes whose command line names the run's directory."""
    managers: int
    """Runner manager records in GitLab."""
    files: int
    """Files and directories of machines."""
    network: int
    """Network devices and named namespaces that were not there before."""

    @property
    def none(self) -> bool:
        """True if nothing is left."""
        return not any(asdict(self).values())


def processes_of(directory: Path, but: frozenset[int] = frozenset()) -> list[int]:
    """Ids of processes whose command line names `directory`, other than `but` and ourselves."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in but | {os.getpid()}:
            continue
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(directory) in command:
            found.append(int(entry.name))
    return found


def vmm_of(machine_id: str) -> int | None:
    """The process id of the machine's QEMU, or None."""
    for entry in Path("/proc").iterdir():
        try:
            if not (entry / "comm").read_text().startswith("qemu-system"):
                continue
            if machine_id.encode() in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except (OSError, ValueError):
            continue
    return None


def files_of(state_dir: Path) -> list[Path]:
    """What is left of machines below a state directory."""
    machines = state_dir / "machines"
    return sorted(machines.rglob("*")) if machines.is_dir() else []


def network_names() -> frozenset[str]:
    """Names of network devices and of named network namespaces on this computer."""
    named = Path("/run/netns")
    spaces = {f"netns {entry.name}" for entry in named.iterdir()} if named.is_dir() else set()
    return frozenset(spaces | {name for _, name in socket.if_nameindex()})
