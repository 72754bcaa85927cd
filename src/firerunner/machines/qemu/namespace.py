"""A network of its own for one machine: a namespace without a name, a tap, and listening sockets.

The namespace has no route that leads out, no other device than loopback and the tap, and no
forwarding, so the guest reaches the listening sockets and nothing else, whatever it sends. It has
no name and no process besides QEMU: it vanishes with QEMU and the keeper's sockets. By another user
than root it is made together with a user namespace, in which that user may configure it.

Addresses are set by the classic ioctls (netdevice(7)), which need no library.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from firerunner.machines.qemu.confine import CAP_NET_ADMIN, LIBC, hand_down
from firerunner.machines.qemu.order import Identity, Listener

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

TUN_DEVICE = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000

SIOCADDRT = 0x890B
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFMTU = 0x8916, 0x891C, 0x8922
IFF_UP = 0x1
RTF_UP, RTF_HOST = 0x1, 0x4

TAP_NAME = "fr0"
MTU = 1500
BACKLOG = 128

UPLINK_ADDRESS, UPLINK_PORT = "127.0.0.1", 1
"""Where the keeper listens for what the packet filter hands to it. A guest cannot name it."""

IP_TRANSPARENT = 19
RTM_NEWROUTE, NLMSG_ERROR = 24, 2
NLM_F_REQUEST, NLM_F_ACK, NLM_F_CREATE = 0x1, 0x4, 0x400
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL = 254, 3, 254, 2
RTA_OIF = 4

SYSCTLS = (
    # Inherited from the host's own namespace, where container tools switch it on.
    ("ipv4/ip_forward", "0"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    ("ipv4/icmp_echo_ignore_all", "1"),
    # A source that is not the guest's own is dropped, so it cannot fill the host-wide neighbour table.
    ("ipv4/conf/all/rp_filter", "1"),
    ("ipv4/conf/default/rp_filter", "1"),
)


def enter(becoming: Identity | None = None) -> None:
    """Move this process into a new network namespace, in which it can become `becoming`. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _unshare(CLONE_NEWNET)
    elif becoming is None:
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")
        _map_users(os.getpid(), [uid], [gid])
    else:
        _unshare_for(becoming, uid, gid)


def _unshare_for(becoming: Identity, uid: int, gid: int) -> None:
    """The same, with two users in it: only a process outside may say so (user_namespaces(7))."""
    process = os.getpid()
    unshared, telling = os.pipe()
    outside = os.fork()
    if outside == 0:
        with contextlib.suppress(BaseException):
            os.close(telling)
            os.read(unshared, 1)
            _map_users(process, [uid, becoming.uid], [gid, becoming.gid, *becoming.groups])
            os._exit(0)
        os._exit(1)
    os.close(unshared)
    try:
        _unshare(CLONE_NEWUSER | CLONE_NEWNET)
    finally:
        os.close(telling)
        _, status = os.waitpid(outside, 0)
    if status != 0:
        raise OSError(f"user {becoming.uid} cannot be had in the machine's user namespace")


def _map_users(process: int, uids: Iterable[int], gids: Iterable[int]) -> None:
    for name, ids in (("uid_map", uids), ("gid_map", gids)):
        text = "".join(f"{each} {each} 1\n" for each in dict.fromkeys(ids))
        Path("/proc", str(process), name).write_text(text)


def make_link(host_address: str, guest_address: str, others: Iterable[str]) -> int:
    """Make the tap with its addresses and the one route; returns the tap's file descriptor.

    The sysctls are a second wall behind the missing route, and may be read-only in a container.
    """
    for name, value in SYSCTLS:
        with contextlib.suppress(OSError):
            Path("/proc/sys/net", name).write_text(value)
    tap = os.open(TUN_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", TAP_NAME.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _address(control, TAP_NAME, host_address)
        for number, address in enumerate(dict.fromkeys(others)):
            _address(control, f"{TAP_NAME}:{number}", address)
        fcntl.ioctl(control, SIOCSIFMTU, struct.pack("16si20x", TAP_NAME.encode(), MTU))
        _up(control, TAP_NAME)
        _up(control, "lo")
        _route(control, guest_address, TAP_NAME)
    return tap


def listen(listeners: Iterable[Listener]) -> list[socket.socket]:
    """One listening socket for each listener, inside the namespace of the calling process."""
    sockets = []
    for listener in listeners:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.bind((listener.address, listener.port))
        sock.listen(BACKLOG)
        sockets.append(sock)
    return sockets


def resolver(address: str, port: int) -> socket.socket:
    """Where the guest's DNS queries arrive, inside the namespace of the calling process."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((address, port))
    return sock


def open_uplink(nft: str, ruleset: str) -> socket.socket:
    """Take every address for our own, and hand what `ruleset` allows to the socket that is returned.

    Raises OSError, with what `nft` complains about.
    """
    import subprocess  # noqa: PLC0415  # most machines do without

    _own_every_address()
    done = subprocess.run(
        [nft, "-f", "-"],
        input=ruleset,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: hand_down(CAP_NET_ADMIN),
    )
    if done.returncode != 0:
        raise OSError(f"nft: {done.stderr.strip() or done.returncode}")
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    sock.bind((UPLINK_ADDRESS, UPLINK_PORT))
    sock.listen(BACKLOG)
    return sock


def _own_every_address() -> None:
    """`ip route add local 0.0.0.0/0 dev lo table main`, as rtnetlink(7) wants it."""
    route = struct.pack(
        "8BI", socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_HOST, RTN_LOCAL, 0
    ) + struct.pack("HHI", 8, RTA_OIF, socket.if_nametoindex("lo"))
    flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(struct.pack("IHHII", 16 + len(route), RTM_NEWROUTE, flags, 1, 0) + route)
        answer = netlink.recv(4096)
    _, kind, _, _, _, error = struct.unpack_from("IHHIIi", answer)
    if kind != NLMSG_ERROR or error != 0:
        raise OSError(-error, f"cannot route to ourselves: {os.strerror(-error)}")


def _unshare(flags: int) -> None:
    if LIBC.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot make a network namespace: {os.strerror(number)}")


def _sockaddr(address: str) -> bytes:
    return struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _address(control: socket.socket, name: str, address: str) -> None:
    fcntl.ioctl(control, SIOCSIFADDR, struct.pack("16s16s8x", name.encode(), _sockaddr(address)))
    fcntl.ioctl(control, SIOCSIFNETMASK, struct.pack("16s16s8x", name.encode(), _sockaddr("255.255.255.255")))


def _up(control: socket.socket, name: str) -> None:
    answer = fcntl.ioctl(control, SIOCGIFFLAGS, struct.pack("16sH22x", name.encode(), 0))
    (flags,) = struct.unpack_from("H", answer, 16)
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | IFF_UP))


def _route(control: socket.socket, guest_address: str, name: str) -> None:
    """`ip route add GUEST dev NAME scope link`, as struct rtentry of <linux/route.h>."""
    device = ctypes.create_string_buffer(name.encode())
    fields = struct.pack(
        "L16s16s16sHhLPhP",
        0,
        _sockaddr(guest_address),
        _sockaddr("0.0.0.0"),
        _sockaddr("255.255.255.255"),
        RTF_UP | RTF_HOST,
        0,
        0,
        0,
        0,
        ctypes.addressof(device),
    )
    fcntl.ioctl(control, SIOCADDRT, fields.ljust(120, b"\0"))
