"""Starting QEMU: one fork that makes its network, gives up its rights and becomes QEMU.

What happens in the child before it becomes QEMU cannot be seen from outside, so it tells over a
socket: first the listening sockets, which the keeper serves, then either the error, or, by the end
of file at exec, that QEMU has started.
"""

from __future__ import annotations

import fcntl
import os
import socket
from typing import NamedTuple, NoReturn

from firerunner.machines.qemu import names, namespace, priority
from firerunner.machines.qemu.confine import confine
from firerunner.machines.qemu.order import Fd, Order

MAX_FDS = 250
"""The kernel passes at most 253 descriptors in one message (SCM_MAX_FD)."""

ABOVE_FIXED = 64

SOCKETS_FOLLOW = b"\0"


class LaunchFailed(Exception):
    """QEMU could not be started; the text says at which step."""


class Vmm(NamedTuple):
    """A started QEMU, with the keeper's ends of its pipes and sockets."""

    pid: int
    pidfd: int
    console: int
    console_input: int | None
    """Where the guest's console can be written to; None for a machine that reads nothing from there."""
    stderr: int
    qmp: socket.socket
    listening: list[socket.socket]
    resolver: socket.socket
    """Where DNS queries arrive."""
    uplink: socket.socket | None
    """Where connections arrive that the uplink's rules allow."""


def launch(order: Order) -> Vmm:
    """Fork, and return when QEMU has taken over the child. Raises `LaunchFailed`."""
    ours, theirs = socket.socketpair()
    qmp, qmp_theirs = socket.socketpair()
    console, console_theirs = os.pipe()
    stderr, stderr_theirs = os.pipe()
    pipes = {Fd.QMP: qmp_theirs.fileno(), 1: console_theirs, 2: stderr_theirs}
    console_input = None
    if order.saved is not None:
        pipes[0], console_input = os.pipe()
        pipes[Fd.MEMORY] = order.saved.memory
    keeper = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become_qemu(order, keeper, theirs, pipes)
    theirs.close()
    qmp_theirs.close()
    os.close(console_theirs)
    os.close(stderr_theirs)
    if order.saved is not None:
        os.close(pipes[0])
        os.close(order.saved.memory)
    with ours:
        sockets = _receive_sockets(ours)
        trouble = b"".join(iter(lambda: ours.recv(65536), b"")).decode("utf-8", "replace")
    if trouble or not sockets:
        os.waitpid(pid, 0)
        raise LaunchFailed(trouble or "the process that was to become QEMU died early")
    uplink = sockets.pop() if order.uplink is not None else None
    *listening, resolver = sockets
    return Vmm(pid, os.pidfd_open(pid), console, console_input, stderr, qmp, listening, resolver, uplink)


def _become_qemu(order: Order, keeper: int, report: socket.socket, pipes: dict[int, int]) -> NoReturn:
    step = "making the machine's network"
    try:
        namespace.enter(order.identity)
        others = [each.address for each in order.listeners if each.address != order.host_address]
        tap = namespace.make_link(order.host_address, order.guest_address, others)
        step = "listening in the machine's network"
        sockets = [
            *namespace.listen(order.listeners),
            namespace.resolver(order.host_address, names.PORT),
        ]
        if order.uplink is not None:
            step = "making the machine's uplink"
            sockets.append(namespace.open_uplink(order.uplink.nft, order.uplink.ruleset))
        _send_sockets(report, sockets)
        step = "opening the machine's files"
        files = {
            Fd.TAP: tap,
            Fd.KERNEL: os.open(order.kernel, os.O_RDONLY),
            Fd.INITRAMFS: os.open(order.initramfs, os.O_RDONLY),
            Fd.BOOT: _boot_file(order),
            Fd.ROOT: os.open(order.root, os.O_RDONLY),
            Fd.DISK: os.open(order.disk, os.O_RDWR),
            0: os.open(os.devnull, os.O_RDWR),
            **pipes,
        }
        step = "giving up privileges"
        report = socket.socket(fileno=fcntl.fcntl(report.fileno(), fcntl.F_DUPFD_CLOEXEC, ABOVE_FIXED))
        _place(files)
        priority.become_vmm()
        confine(order.identity, keeper)
        step = f"starting {order.argv[0]}"
        os.execve(order.argv[0], order.argv, {"PATH": "/usr/bin:/bin", "LANG": "C"})  # noqa: S606
    except BaseException as error:
        report.sendall(f"{step}: {error}".encode())
    finally:
        os._exit(127)


def _boot_file(order: Order) -> int:
    """The boot parameters as a file in memory that only QEMU's user may read: never on a disk."""
    fd = os.memfd_create("boot", os.MFD_CLOEXEC)
    os.write(fd, order.boot.encode())
    os.fchmod(fd, 0o400)
    if order.identity is not None:
        os.fchown(fd, order.identity.uid, order.identity.gid)
    return fd


def _place(files: dict[int, int]) -> None:
    """Move each file to its fixed number, open across exec."""
    moved = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE_FIXED) for number, fd in files.items()}
    for number, fd in moved.items():
        os.dup2(fd, number, inheritable=True)


def _send_sockets(report: socket.socket, sockets: list[socket.socket]) -> None:
    socket.send_fds(report, [SOCKETS_FOLLOW], [sock.fileno() for sock in sockets])


def _receive_sockets(report: socket.socket) -> list[socket.socket]:
    """The sockets that the child sends; none if it reports trouble, which is still to be read."""
    if report.recv(1, socket.MSG_PEEK) != SOCKETS_FOLLOW:
        return []
    _, fds, _, _ = socket.recv_fds(report, 1, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
    return [socket.socket(fileno=fd) for fd in fds]
