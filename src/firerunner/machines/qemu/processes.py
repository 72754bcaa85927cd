"""Finding the processes of machines, and ending exactly those.

A process is known by its command line, which names the machine's directory; that holds also when the
directory is gone or its state file is lost. A process id is believed only together with the start
time, and signalled through a pidfd, so that a recycled id is never hit. Processes of other users are
not looked at: anybody can write our directory into a command line of their own.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from firerunner.machines.qemu.identity import may_be_ours
from firerunner.machines.qemu.statefile import start_ticks
from firerunner.machines.spec import MACHINE_ID

KEEPER_MODULE = "firerunner.machines.qemu.keeper"
FORK_SERVER_MODULE = "firerunner.machines.qemu.forkserver"

LONGEST_BELOW = len("/templates/fr-0123456789ab")
"""Of a machine's directory, beyond that of the state."""


class Role(StrEnum):
    """What a process is to its machine."""

    KEEPER = "keeper"
    """The parent of the VMM."""
    VMM = "vmm"
    """QEMU."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A living process that carries our mark."""

    machine_id: str
    role: Role
    pid: int
    start_ticks: int


def keeper_command(python: str, directory: Path) -> list[str]:
    """The command line of a keeper; `role_in` knows it again."""
    return [python, "-I", "-m", KEEPER_MODULE, str(directory)]


def fork_server_name(state_dir: Path) -> str:
    """The last argument of a fork server: as long as the directory of any machine of `state_dir`."""
    return f"{state_dir.resolve()}{' ' * LONGEST_BELOW}"


def take_command_line(argv: list[str]) -> None:
    """From now on the calling process, forked of another, has this command line for all who look.

    It is written over the one that it has, and must not be longer (proc_pid_cmdline(5); where that lies:
    fields 48 and 49 of proc_pid_stat(5)). Raises OSError.
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    line = b"".join(os.fsencode(argument) + b"\0" for argument in argv)
    if len(line) > end - start:
        raise OSError(f"a command line of {len(line)} bytes does not fit into {end - start}")
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(line.ljust(end - start, b"\0"))


def vmm_name(directory: Path) -> str:
    """The value of QEMU's `-name`, a comma doubled as its option syntax wants; `role_in` knows it again."""
    return f"guest={str(directory).replace(',', ',,')},debug-threads=on"


def role_in(argv: list[str], machines: Path) -> tuple[str, Role] | None:
    """Whose process a command line is, for the driver that keeps its machines in `machines`.

    A pager or an editor that was given a machine's file does not count.
    """
    if len(argv) > 3 and argv[-3:-1] == ["-m", KEEPER_MODULE]:
        directory = Path(argv[-1])
        if directory.parent == machines and MACHINE_ID.fullmatch(directory.name):
            return directory.name, Role.KEEPER
    if len(argv) > 3 and argv[1] == "-name":
        machine_id = argv[2].removesuffix(",debug-threads=on").rpartition("/")[2]
        if MACHINE_ID.fullmatch(machine_id) and argv[2] == vmm_name(machines / machine_id):
            return machine_id, Role.VMM
    return None


def scan(machines: Path) -> list[Claim]:
    """All living processes of machines kept in `machines`."""
    claims = (claim_of(int(name), machines) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208
    return [claim for claim in claims if claim is not None]


def claim_of(pid: int, machines: Path) -> Claim | None:
    """What the process is to us, or None: not ours, or ended (an unreaped process has no command line)."""
    try:
        if not may_be_ours(Path("/proc", str(pid)).stat().st_uid):
            return None
        raw = Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        return None
    found = role_in(raw.decode("utf-8", "surrogateescape").rstrip("\0").split("\0"), machines)
    ticks = start_ticks(pid)
    if found is None or ticks is None:
        return None
    return Claim(*found, pid, ticks)


def end(claims: list[Claim], machines: Path, timeout_s: float) -> list[Claim]:
    """Kill the processes and wait until they are gone; returns those that are still there."""
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as stack:
        killed = []
        for claim in claims:
            fd = _open_same(claim, machines)
            if fd is not None:
                stack.callback(os.close, fd)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                killed.append((claim, fd))
        return [claim for claim, fd in killed if not _gone(fd, deadline)]


def reap(pid: int, ticks: int | None) -> None:
    """Take the exit status of an orphan that became our child, as happens when we are process 1."""
    if ticks is not None and start_ticks(pid) == ticks:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _open_same(claim: Claim, machines: Path) -> int | None:
    """A pidfd of the very process, or None if it is gone. The check comes after the pidfd is open."""
    try:
        fd = os.pidfd_open(claim.pid)
    except ProcessLookupError:
        return None
    if claim_of(claim.pid, machines) == claim:
        return fd
    os.close(fd)
    return None


def _gone(pidfd: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
