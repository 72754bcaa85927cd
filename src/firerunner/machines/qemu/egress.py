"""Which address inside a machine's network stands for which destination outside.

A machine's network is one link with two ends: the guest, and the host's end of a tap device. On the
host's end the keeper listens on one address for the gate and on one for each destination that the
pool allows; nothing else is there. The guest finds the addresses by name in its hosts file, which
the gate writes from `hosts_entries`; a destination given as an IPv4 address is listened on as itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from firerunner.errors import MachineError
from firerunner.machines.qemu.order import Listener
from firerunner.machines.spec import Destination, Egress

GUEST_ADDRESS = "10.0.2.15"
HOST_ADDRESS = "10.0.2.2"
LINK = ipaddress.IPv4Network("10.0.2.0/24")
GATE_PORT = 80

FIRST_EGRESS = 100
LAST_EGRESS = 254
"""Hosts of a pool's egress get 10.0.2.100, 10.0.2.101, ... in the order in which they are declared."""

MAX_LISTENERS = 240
"""The kernel hands over at most 253 sockets at once (SCM_MAX_FD)."""


def egress_addresses(egress: Iterable[Egress]) -> tuple[tuple[str, str], ...]:
    """Each named host with the address that stands for it; a host with several ports has one address.

    Raises `MachineError` for a destination that cannot be given an address.
    """
    addresses: dict[str, str] = {}
    named = 0
    for destination in _named(egress):
        host = destination.host.lower()
        if host in addresses:
            continue
        literal = _literal(host)
        if literal is not None:
            addresses[host] = str(literal)
            continue
        if FIRST_EGRESS + named > LAST_EGRESS:
            raise MachineError(
                f"egress names more than {LAST_EGRESS - FIRST_EGRESS + 1} hosts",
                remedy="Put a proxy in front of them and allow the proxy.",
            )
        addresses[host] = str(LINK.network_address + FIRST_EGRESS + named)
        named += 1
    return tuple(addresses.items())


def guest_gate_url(machine_id: str) -> str:
    """The gate's URL as a machine sees it: every call names its machine."""
    return f"http://{HOST_ADDRESS}/m/{machine_id}"


def hosts_entries(egress: Iterable[Egress]) -> list[tuple[str, str]]:
    """(host, address) pairs for the guest's hosts file; destinations that are addresses need none."""
    return [(host, address) for host, address in egress_addresses(egress) if host != address]


def listeners(gate: str, egress: tuple[Egress, ...]) -> tuple[Listener, ...]:
    """Where the guest reaches the gate, which is first, and each named destination.

    Raises `MachineError` for an address that cannot be read, a destination declared twice with two
    different `connect_to`, and too many of them.
    """
    gate_host, gate_port = split_host_port(gate)
    table = {(HOST_ADDRESS, GATE_PORT): Listener(HOST_ADDRESS, GATE_PORT, gate_host, gate_port)}
    addresses = dict(egress_addresses(egress))
    for destination in _named(egress):
        address = addresses[destination.host.lower()]
        host, port = destination.host, destination.port
        if destination.connect_to is not None:
            host, port = split_host_port(destination.connect_to, default_port=port)
        if not 0 < destination.port < 65536:
            raise MachineError(
                f"egress {destination.host}:{destination.port} has no usable port", remedy="Use 1 to 65535."
            )
        key = (address, destination.port)
        listener = Listener(address, destination.port, host, port)
        if table.setdefault(key, listener) != listener:
            raise MachineError(
                f"egress {destination.host}:{destination.port} is declared with two different connect_to",
                remedy="Keep one of them.",
            )
    if len(table) > MAX_LISTENERS:
        raise MachineError(
            f"egress names more than {MAX_LISTENERS - 1} destinations",
            remedy="Name a network or a domain instead, or put a proxy in front of them.",
        )
    return tuple(table.values())


def split_host_port(text: str, default_port: int | None = None) -> tuple[str, int]:
    """`host:port`, `[v6]:port`, or with a default `host` alone. Raises `MachineError`."""
    host, colon, port = text.rpartition(":")
    if default_port is not None and (not colon or text.endswith("]")):
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise MachineError(
            f"cannot read {text!r} as host:port", remedy="Write it like gitlab.example.com:443."
        )
    return host, int(port)


def _named(egress: Iterable[Egress]) -> list[Destination]:
    return [each for each in egress if isinstance(each, Destination)]


def _literal(host: str) -> ipaddress.IPv4Address | None:
    """The host as an IPv4 address, or None for a name. Refuses what a listener cannot stand for."""
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    if not isinstance(address, ipaddress.IPv4Address):
        raise MachineError(
            f"egress {host} is an IPv6 address, and a machine's link speaks IPv4 only",
            remedy="Declare it by name, with connect_to for the address.",
        )
    if address in LINK or address.is_loopback or address.is_multicast or address.is_unspecified:
        raise MachineError(
            f"egress {host} is an address that means something else inside a machine",
            remedy="Declare a name of your choice, with connect_to for the address.",
        )
    return address
