"""The name of a saved state: a digest of everything that it is only good with. Pure.

QEMU itself notices little: a device more or another processor may end in a guest that runs on, wrongly.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

FORMAT = 2
"""Of the files of a state, and of what a guest does between template and restore."""


def state_facts(
    *,
    image: str,
    qemu: str,
    command: Sequence[str],
    disk_mib: int,
    cpuinfo: str,
    kernel: str,
) -> dict[str, str]:
    """What the state was made with. `command`: a template's, of which its name is taken out; it holds
    accelerator, sizes, devices and the rate of the time stamp counter. `qemu`: what `--version` says.
    `cpuinfo`: /proc/cpuinfo. `kernel`: the release of this computer's kernel. The disk's size counts,
    because the guest has seen it."""
    at = command.index("-name")
    machine = [*command[:at], *command[at + 2 :]]
    return {
        "format": str(FORMAT),
        "image": image,
        "qemu": qemu,
        "machine": json.dumps(machine),
        "disk_mib": str(disk_mib),
        "cpu": json.dumps(processor(cpuinfo)),
        "kernel": kernel,
    }


def processor(cpuinfo: str) -> dict[str, str]:
    """Model, microcode and abilities of the first processor (proc(5)); what changes by itself is left out."""
    wanted = {"vendor_id", "cpu family", "model", "model name", "stepping", "microcode", "flags"}
    found: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip() in wanted:
            found.setdefault(name.strip(), value.strip())
    return found


def key_of(facts: Mapping[str, str]) -> str:
    """32 hex digits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """The names of the facts in which they differ."""
    return sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
