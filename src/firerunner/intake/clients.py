"""Who a request really comes from, where reverse proxies stand in front of us.

Only `X-Forwarded-For` is read (RFC 7239's `Forwarded` and `X-Real-IP` are not), and only as far as declared
proxies have written it: each proxy puts the address that it saw at the right end, so the list is walked from
there. What stands to the left of the first address that is no proxy may be anybody's invention.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from firerunner.settings.values import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_MOST_PROXIES = 32
_ENTRY = re.compile(r"\[(?P<v6>[^\]]+)\](?::\d{1,5})?|(?P<v4>\d[\d.]*)(?::\d{1,5})?")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_SITE_BITS = 64


def client_address(peer: str | None, forwarded: Sequence[str], proxies: Sequence[Network]) -> Address | None:
    """The client's address, or None if it cannot be told.

    `peer` is the other end of the connection; None stands for a Unix socket, on which only a proxy can speak,
    because the socket's file says who may. `forwarded` are the values of the `X-Forwarded-For` headers, in
    their order.
    """
    client = None if peer is None else parsed(peer)
    if peer is not None and not (client and within(client, proxies)):
        return client
    for entry in reversed(",".join(forwarded).rsplit(",", _MOST_PROXIES)):
        if not entry.strip():
            continue
        client = parsed(entry)
        if client is None or not within(client, proxies):
            return client
    return client


def parsed(text: str) -> Address | None:
    """An address as peers and proxies write it, port and zone taken off; None if it is none."""
    match = _ENTRY.fullmatch(text.strip())
    plain = (match["v6"] or match["v4"]) if match else text.strip()
    try:
        address = ipaddress.ip_address(plain.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def within(address: Address, networks: Iterable[Network]) -> bool:
    """True if the address is in one of the networks. An IPv4 address mapped into IPv6 is the IPv4 address."""
    return any(address in _unmapped(network) for network in networks)


def site(address: Address | None) -> str:
    """What stands for one client in limits: an IPv4 address, or the /64 that one IPv6 site has to itself."""
    if address is None:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address), _SITE_BITS), strict=False))
    return str(address)


def _unmapped(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFF_FFFF
        return ipaddress.IPv4Network((low, network.prefixlen - _MAPPED.prefixlen))
    return network
