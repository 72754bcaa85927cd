"""A hostile guest tries everything in reach; only the gate and the pool's egress answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from firerunner.machines.spec import Destination
from tests.contract.gate import serving
from tests.contract.kits import QemuKit
from tests.contract.lab import qemu_kit, test_guest

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

__all__ = ["qemu_kit", "test_guest"]

HOSTILE, NEIGHBOUR = "fr-isolation001", "fr-isolation002"

PROBES = r"""
# `answer NAME HOST PORT`: print what the service says that listens there, if one does.
answer() { echo "$1=$(timeout 3 nc -w 2 "$2" "$3" < /dev/null 2> /dev/null | head -n 1)"; }
# `ping_to NAME COMMAND...`: print whether an echo comes back.
ping_to() { name=$1; shift; "$@" > /dev/null 2>&1 && echo "$name=echo" || echo "$name="; }

ip addr add fd00::15/64 dev eth0
answer egress-by-name git.example.com 8443
answer egress-other-port git.example.com 9999
answer egress-by-address 198.51.100.7 443
answer host-loopback 127.0.0.1 LOOPBACK
answer host-loopback-by-gateway 10.0.2.2 LOOPBACK
answer host-lan LAN_ADDRESS LAN
answer host-lan-gate-port LAN_ADDRESS 80
answer metadata 169.254.169.254 80
answer neighbour-egress 10.0.2.101 7000
answer neighbour-guest 10.0.2.16 80
answer dns-tcp 10.0.2.2 53
answer dns-usual 10.0.2.3 53
answer gateway-own-loopback 127.0.0.2 80
answer elsewhere 192.0.2.1 443
# Routes of the guest's own making, past the link's other end.
ip route add 127.0.0.0/8 via 10.0.2.2 dev eth0 table local 2> /dev/null
ip route del local 127.0.0.0/8 dev lo table local 2> /dev/null
answer host-loopback-by-route 127.0.0.1 LOOPBACK
# A guest that takes other addresses of the link.
ip addr add 10.0.2.77/24 dev eth0
echo "spoofed-source=$(timeout 3 nc -w 2 -p 1 10.0.2.2 LOOPBACK < /dev/null 2> /dev/null | head -n 1)"
ping_to icmp-gateway ping -c 1 -W 2 10.0.2.2
ping_to icmp-lan ping -c 1 -W 2 LAN_ADDRESS
ping_to icmp-metadata ping -c 1 -W 2 169.254.169.254
ping_to ipv6-all-routers ping6 -c 1 -W 2 -I eth0 ff02::2
ping_to ipv6-gateway ping6 -c 1 -W 2 fd00::2
nslookup gitlab.example.com 10.0.2.2 > /tmp/dns 2>&1 && echo "dns-of-others=resolved" || echo "dns-of-others="
nslookup git.example.com 10.0.2.2 2>&1 | grep -q 10.0.2.100 && echo "dns-of-egress=resolved"
open=""
for port in 21 22 25 53 80 81 111 443 2375 3128 6443 8000 8080 9090 LOOPBACK LAN GATE; do
    timeout 2 nc 10.0.2.2 $port < /dev/null > /dev/null 2>&1 && open="$open $port"
done
echo "open-ports-of-gateway=$open"
"""

TCP_LISTEN = "0A"

REACHED = {
    "egress-by-name=egress",
    "egress-by-address=literal",
    "open-ports-of-gateway= 80",
    "dns-of-egress=resolved",
}


@dataclass(slots=True)
class Service:
    """Listens on the host, says its name to who connects, and counts."""

    name: str
    port: int = 0
    visits: int = 0

    @property
    def local(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        writer.write(f"{self.name}\n".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def service(name: str, address: str = "127.0.0.1") -> AsyncIterator[Service]:
    it = Service(name)
    server = await asyncio.start_server(it.serve, address, 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A process's network namespace, as the kernel lists it in /proc/PID/net."""

    devices: set[str]
    routes: set[tuple[str, str]]
    tcp: set[tuple[str, int]]
    udp: set[tuple[str, int]]
    others: list[str]
    """Raw sockets, anything of IPv6."""

    @classmethod
    def of(cls, pid: int) -> Surroundings:
        def rows(name: str, heading: int = 1) -> list[list[str]]:
            text = Path("/proc", str(pid), "net", name).read_text()
            return [line.split() for line in text.splitlines()[heading:]]

        listening = [row[1].split(":") for row in rows("tcp") if row[3] == TCP_LISTEN]
        return cls(
            devices={row[0].rstrip(":") for row in rows("dev", heading=2)},
            routes={(row[0], address(row[1])) for row in rows("route")},
            tcp={(address(host), int(port, 16)) for host, port in listening},
            udp={(address(host), int(port, 16)) for host, port in (row[1].split(":") for row in rows("udp"))},
            others=[" ".join(row) for name in ("udp6", "raw", "raw6", "tcp6") for row in rows(name)]
            + [" ".join(row) for row in rows("if_inet6", heading=0)],
        )


def address(hexadecimal: str) -> str:
    """An IPv4 address as /proc prints it, in host byte order."""
    return socket.inet_ntoa(bytes.fromhex(hexadecimal)[::-1])


def lan_address() -> str:
    """An address of this computer that is not loopback, where it has one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(sock.getsockname()[0])


async def test_a_hostile_guest_reaches_the_gate_and_the_egress_only(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    async with (
        serving(hold=True) as gate,
        serving(hold=True) as neighbour_gate,
        service("loopback") as loopback,
        service("lan", lan_address()) as lan,
        service("egress") as allowed,
        service("literal") as literal,
        service("neighbour") as neighbour,
    ):
        words = {"LOOPBACK": loopback.port, "LAN_ADDRESS": lan_address(), "LAN": lan.port}
        script = PROBES.replace("GATE", gate.address.rpartition(":")[2])
        for word, value in words.items():
            script = script.replace(word, str(value))
        egress = (
            Destination("git.example.com", 8443, allowed.local),
            Destination("198.51.100.7", 443, literal.local),
        )
        hosts = "".join(
            f"echo {address} {host} >> /etc/hosts\n" for host, address in driver.hosts_entries(egress)
        )
        gate.script = f"mkdir -p /etc /tmp\n{hosts}{script}"
        theirs = (Destination("one.example.com", 7000), Destination("two.example.com", 7000, neighbour.local))
        await driver.create(replace(qemu_kit.spec(NEIGHBOUR, neighbour_gate.address), egress=theirs))
        await neighbour_gate.booted.wait()

        await driver.create(replace(qemu_kit.spec(HOSTILE, gate.address), egress=egress))
        await gate.booted.wait()
        inside = Surroundings.of(qemu_kit.vmm(HOSTILE))
        gate.go.set()
        report = (await gate.report.get()).splitlines()

    assert {line for line in report if not line.endswith("=")} == REACHED
    assert len(report) > 20
    assert inside == Surroundings(
        devices={"lo", "fr0"},
        routes={("fr0", "10.0.2.15")},
        tcp={("10.0.2.2", 80), ("10.0.2.100", 8443), ("198.51.100.7", 443)},
        udp={("10.0.2.2", 53)},
        others=[],
    )
    assert (loopback.visits, lan.visits, neighbour.visits) == (0, 0, 0)
