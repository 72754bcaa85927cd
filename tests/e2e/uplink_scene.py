"""One machine with an uplink, in a world of its own; prints what its guest has seen, and who was visited.

Run by `test_uplink` in namespaces of its own: `python -m tests.e2e.uplink_scene`, with kernel, initramfs,
root and state directory.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from firerunner.machines.spec import Destination, Domain, ImageFiles, Internet, Network
from tests.contract.gate import serving
from tests.contract.kits import QemuKit
from tests.e2e.uplink_world import (
    AZURE,
    CORPORATE,
    HOST_CORPORATE,
    HOST_PORTS,
    HOST_PUBLIC,
    METADATA,
    PUBLIC,
    Services,
    far_side,
    take_name_server,
)

MACHINE = "fr-uplink000001"

EGRESS = (
    Destination("named.example.com", 7000, f"{CORPORATE}:7000"),
    Network(f"{CORPORATE}/32", 5432),
    Network("10.0.0.0/8", 5432),
    Domain("trusted.test", 80),
    Internet(443),
)

PROBES = f"""
answer() {{ echo "$1=$(timeout 5 nc -w 4 "$2" "$3" < /dev/null 2> /dev/null | head -n 1)"; }}
# For IPv4 alone: asked for both, nslookup is content with one answer, and that for IPv6 is always "none".
resolves() {{ nslookup -type=a "$1" "$2" > /dev/null 2>&1; }}
mkdir -p /etc; echo "nameserver 10.0.2.2" > /etc/resolv.conf

answer named 10.0.2.100 7000
answer network {CORPORATE} 5432
answer network-other-port {CORPORATE} 80
answer internet {PUBLIC} 443
answer internet-other-port {PUBLIC} 8080
answer internet-by-name shop.example.test 443
answer domain a.trusted.test 80
answer domain-six six.trusted.test 80
answer domain-other-port a.trusted.test 5432
answer domain-other-port-443 a.trusted.test 443
answer parent-of-domain trusted.test 80
answer host-public {HOST_PUBLIC} 443
answer host-corporate {HOST_CORPORATE} 5432
answer host-by-domain me.trusted.test 80
answer host-loopback-by-domain loop.trusted.test 80
answer metadata {METADATA} 443
answer metadata-by-domain meta.trusted.test 80
answer metadata-of-azure {AZURE} 443
answer metadata-of-azure-by-domain azure.trusted.test 80
answer private-by-internet {CORPORATE} 443
answer stand-in-of-nothing 198.18.200.200 80
answer keepers-socket 10.0.2.2 1
answer gateway 10.0.2.2 443
answer dns-by-tcp 10.0.2.2 53
timeout 5 nc -w 1 10.0.2.2 53 < /dev/null && echo "dns-by-tcp=open"
nslookup -type=txt text.example.test 10.0.2.2 2>&1 | grep -q "firerunner was here" && echo "text=seen"
resolves shop.example.test 10.0.2.2 && echo "somebody=resolved"
resolves nobody.example.test 10.0.2.2 && echo "nobody=resolved"
resolves nobody.trusted.test 10.0.2.2 && echo "nobody-below-domain=resolved"
resolves shop.example.test {CORPORATE} && echo "udp=out"
ping -c 1 -W 2 {PUBLIC} > /dev/null 2>&1 && echo "ping=out"
echo "done=$(echo yes)"
"""


async def play(image: ImageFiles, state_dir: Path) -> None:
    kit = QemuKit(state_dir, image)
    driver = kit.driver()
    take_name_server(state_dir)
    host = Services()
    async with far_side(), serving(PROBES) as gate:
        for address in (HOST_PUBLIC, HOST_CORPORATE, "127.0.0.1"):
            await host.listen("host", address, HOST_PORTS)
        try:
            await driver.create(replace(kit.spec(MACHINE, gate.address), egress=EGRESS))
            report = await gate.report.get()
        finally:
            await driver.destroy(MACHINE)
            await driver.aclose()
    print(json.dumps({"report": report.splitlines(), "host": host.visits}))


if __name__ == "__main__":
    kernel, initramfs, root, state_dir = (Path(each) for each in sys.argv[1:])
    asyncio.run(play(ImageFiles("test-guest", kernel, initramfs, root), state_dir))
