"""Makes the connections that the packet filter has handed over: on the host's side, and not to the host.

What a guest may reach is the packet filter's rules; what they cannot say is here: which name an address
stands for, and that an address is this computer's own.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

STAND_INS = ipaddress.IPv4Network("198.18.0.0/15")
"""Names below an allowed domain are given these addresses, one by one (RFC 2544: routed nowhere)."""

METADATA = ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254")
"""Where clouds hand out the computer's own credentials, besides 169.254.169.254: Alibaba, Azure (a public
address), Oracle, AWS and Google."""

MAX_NAMES = 10_000
"""No guest makes its keeper remember more."""

ATTEMPT_TIMEOUT_S = 20.0
ANY_PORT = 9

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Outward:
    """The way out of one machine, besides the destinations that have a listener of their own."""

    def __init__(self, domains: Sequence[tuple[str, int | None]], resolves: bool) -> None:
        """`domains`: parent and port, None for all; `resolves`: whether all other names may be asked for."""
        self.resolves = resolves
        self._domains = domains
        self._addresses: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def covers(self, name: str, port: int | None = None) -> bool:
        """Whether a name lies below an allowed domain; with a port, whether that may be reached there."""
        return any(
            name.endswith(f".{parent}") and port in {None, allowed or port}
            for parent, allowed in self._domains
        )

    async def stand_in(self, name: str) -> str | None:
        """The address that stands for the name; None if the host does not know the name."""
        if name not in self._addresses:
            if len(self._addresses) >= MAX_NAMES or not await _addresses_of(name):
                return None
            address = str(STAND_INS.network_address + 1 + len(self._addresses))
            self._names.setdefault(self._addresses.setdefault(name, address), name)
        return self._addresses[name]

    async def connect(self, guest: socket.socket) -> Stream | None:
        """Connect to where the guest believes to be connected; None if that may or can not be reached."""
        address, port = guest.getsockname()
        for target in await self._targets(address, port):
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_S):
                    return await asyncio.open_connection(target, port)
            except OSError:
                continue
        return None

    async def _targets(self, address: str, port: int) -> list[str]:
        found = [address]
        if ipaddress.ip_address(address) in STAND_INS:
            name = self._names.get(address)
            found = await _addresses_of(name) if name is not None and self.covers(name, port) else []
        return [each for each in found if not _is_here(each)]


async def _addresses_of(name: str) -> list[str]:
    """The addresses of the name as the host knows it, the best first; none if it does not."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def _is_here(address: str) -> bool:
    """True for what is this computer, speaks for it, or means something else on each.

    To an address of its own, the kernel would speak from that same address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if str(ip) in METADATA or ip.is_loopback or ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return True
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(ip), ANY_PORT))
        except OSError:
            return False  # it cannot be reached at all
        return ipaddress.ip_address(probe.getsockname()[0]) == ip
