"""By which rules a guest gets out: to networks, to the names below a domain, or to the internet.

The machine's network takes every address for its own, and has nobody listening but the keeper. A packet
filter hands the connections that the pool allows to one socket of the keeper (nftables' tproxy), which
connects on the host's side; all others are refused on the spot. So nothing is forwarded, no route leads
out, and what may be reached is decided in one place. UDP does not get out; DNS is answered by the keeper.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from firerunner.errors import HostUnusable
from firerunner.machines.qemu.egress import LINK
from firerunner.machines.qemu.namespace import TAP_NAME, UPLINK_ADDRESS, UPLINK_PORT
from firerunner.machines.qemu.order import Listener, Uplink
from firerunner.machines.qemu.outward import METADATA, STAND_INS
from firerunner.machines.spec import Domain, Egress, Internet, Network

NEVER = (
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    str(STAND_INS),
    "224.0.0.0/4",
    "240.0.0.0/4",
    *(f"{address}/32" for address in METADATA if ":" not in address),
)
"""Not reached through a network, however wide: what means something else on each computer, and where a
cloud hands out the host's own credentials."""

NOT_PUBLIC = (
    *NEVER,
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.51.100.0/24",
    "203.0.113.0/24",
)
"""IANA's registry of special-purpose IPv4 addresses."""


def uplink_of(egress: Sequence[Egress], listeners: Iterable[Listener], nft: str | None) -> Uplink | None:
    """The rules for what `egress` allows besides single destinations; None if it allows nothing else.

    Raises `HostUnusable` if they are needed and `nft` is not there to put them in force.
    """
    networks = [each for each in egress if isinstance(each, Network)]
    domains = [each for each in egress if isinstance(each, Domain)]
    internet = [each for each in egress if isinstance(each, Internet)]
    if not (networks or domains or internet):
        return None
    if nft is None:
        raise HostUnusable(
            "nft is not installed, and the pool's egress names a network, a domain or the internet",
            remedy="Run: apt-get install nftables",
        )
    return Uplink(
        nft=nft,
        ruleset=_ruleset(networks, domains, internet, listeners),
        domains=[(each.parent, each.port) for each in domains],
        resolves=bool(internet),
    )


def _ruleset(
    networks: Iterable[Network],
    domains: Iterable[Domain],
    internet: Iterable[Internet],
    listeners: Iterable[Listener],
) -> str:
    taken = ", ".join(f"{each.address} . {each.port}" for each in listeners)
    rules = [
        f"iifname != {TAP_NAME} accept",
        "meta l4proto != tcp accept",
        f"ip daddr {LINK} accept",
        f"ip daddr . tcp dport {{ {taken} }} accept",
        *(_hand_over(str(STAND_INS), each.port) for each in domains),
        f"ip daddr {_set(NEVER)} accept",
        *(_hand_over(each.cidr, each.port) for each in networks),
        *(_hand_over(f"!= {_set(NOT_PUBLIC)}", each.port) for each in internet),
    ]
    body = "\n".join(f"    {rule}" for rule in dict.fromkeys(rules))
    return (
        "table ip firerunner {\n  chain uplink {\n"
        "    type filter hook prerouting priority mangle; policy accept;\n"
        f"{body}\n  }}\n}}\n"
    )


def _set(networks: Iterable[str]) -> str:
    """Without overlaps, which nft refuses."""
    merged = ipaddress.collapse_addresses(ipaddress.IPv4Network(each) for each in networks)
    return f"{{ {', '.join(map(str, merged))} }}"


def _hand_over(addresses: str, port: int | None) -> str:
    where = f"ip daddr {addresses}" + (f" tcp dport {port}" if port is not None else " meta l4proto tcp")
    return f"{where} tproxy to {UPLINK_ADDRESS}:{UPLINK_PORT} accept"
