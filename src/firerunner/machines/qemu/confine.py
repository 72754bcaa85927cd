"""Taking away from a process what it does not need: user, privileges, limits, and a life of its own."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct

from firerunner.machines.qemu.order import Identity

LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4

CAP_NET_ADMIN = 12
LINUX_CAPABILITY_VERSION_3 = 0x20080522

MAX_OPEN_FILES = 2048
MAX_PROCESSES = 512
"""Threads count as well: vCPUs, disk workers, the main loop."""


def confine(identity: Identity | None, parent: int) -> None:
    """Drop to `identity`, give up gaining privileges for good, and die with `parent`.

    The order matters: the kernel forgets the death signal when the user changes. The keeper's own limit
    on file sizes is lifted, since the machine's disk is a file with a size of its own.
    """
    os.umask(0o077)
    os.chdir("/")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    bound_open_files()
    if identity is not None:
        resource.setrlimit(resource.RLIMIT_NPROC, (MAX_PROCESSES, MAX_PROCESSES))
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    forbid_new_privileges()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def forbid_new_privileges() -> None:
    """No set-user-id program that this process starts gets more rights than it has."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def bound_open_files() -> None:
    """Limit open files to `MAX_OPEN_FILES`, or leave a lower limit as it is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def hand_down(capability: int) -> None:
    """Let the next program have a capability that this process has, whatever its user (capabilities(7)).

    An ordinary user has it in a user namespace of its own, and would lose it at exec.
    """
    header = struct.pack("Ii", LINUX_CAPABILITY_VERSION_3, 0)
    sets = ctypes.create_string_buffer(24)
    if LIBC.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), f"capget: {os.strerror(ctypes.get_errno())}")
    effective, permitted, _, *rest = struct.unpack("6I", sets)
    if LIBC.capset(header, struct.pack("6I", effective, permitted, 1 << capability, *rest)) != 0:
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def hand_nothing_down() -> None:
    """The next program of a user other than root has no capability, whatever this process has."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)


def prctl(option: int, value: int, third: int = 0) -> None:
    """Linux prctl(2) with one argument or two. Raises OSError."""
    if LIBC.prctl(option, value, third, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}): {os.strerror(ctypes.get_errno())}")
