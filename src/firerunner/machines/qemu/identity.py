"""The numeric user that a machine's QEMU runs as: one of its own where the controller may become others."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from firerunner.machines.qemu.order import Identity

FIRST_UID = 1_900_000_000
UIDS = 1 << 26
"""Above the ranges that distributions, systemd and container tools give out, below 2^31."""

KVM_DEVICE = Path("/dev/kvm")

CAP_SETGID, CAP_SETUID = 6, 7


def identity_of(machine_id: str, *, kvm: bool) -> Identity | None:
    """The user and group for a machine, or None where QEMU runs as the controller's own user.

    The group of /dev/kvm is added only for a machine that uses it.
    """
    if not drops_privileges():
        return None
    uid = FIRST_UID + int.from_bytes(hashlib.sha256(machine_id.encode()).digest()[:4]) % UIDS
    return Identity(uid, uid, [KVM_DEVICE.stat().st_gid] if kvm else [])


def drops_privileges() -> bool:
    """True for root, and for a service that has CAP_SETUID and CAP_SETGID (deploy/systemd), unless in a
    container whose user namespace lacks our range."""
    may = os.geteuid() == 0 or may_become_others(Path("/proc/self/status").read_text())
    return may and is_mapped(Path("/proc/self/uid_map").read_text())


def may_become_others(status: str) -> bool:
    """True if the process described by `status` (proc_pid_status(5)) may take any user and group."""
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    wanted = 1 << CAP_SETUID | 1 << CAP_SETGID
    return int(effective.split()[1], 16) & wanted == wanted


def is_mapped(uid_map: str) -> bool:
    """True if the user namespace described by `uid_map` (user_namespaces(7)) holds our whole range."""
    for line in uid_map.splitlines():
        inside, _outside, count = (int(field) for field in line.split())
        if inside <= FIRST_UID and inside + count >= FIRST_UID + UIDS:
            return True
    return False


def may_be_ours(uid: int) -> bool:
    """True for a process owner that a keeper or a QEMU of this controller can have."""
    return uid == os.geteuid() or FIRST_UID <= uid < FIRST_UID + UIDS
