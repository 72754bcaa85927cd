"""A KVM host's network in namespaces: a bridge with guests, an uplink, and a world outside. Needs no root.

`veth` devices stand in for the TAPs that Flintlock attaches to the bridge; everything else is the real thing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

NETWORK_SH = Path(__file__).parents[2] / "deploy" / "flintlock" / "network.sh"
DHCP_SH = Path(__file__).parents[2] / "src" / "firerunner" / "guest" / "files" / "dhcp.sh"
WAIT_S = 20.0

GATE, GITLAB, DNS = "192.0.2.10", "192.0.2.20", "192.0.2.53"
INTERNET, PRIVATE, METADATA = "203.0.113.7", "10.77.0.7", "169.254.169.254"
HOST, BRIDGE_ADDRESS = "192.0.2.31", "10.61.0.1"
OUTSIDE = (GATE, GITLAB, DNS, INTERNET, PRIVATE, METADATA)

CONF = {
    "BRIDGE": "frbr0",
    "ADDRESS": f"{BRIDGE_ADDRESS}/16",
    "DHCP_RANGE": "10.61.1.0,10.61.1.200",
    "LEASE": "1h",
    "UPLINK": "up0",
    "DNS": DNS,
    "EGRESS": f"{GATE}:8443 {GITLAB}:443",
}

USER = () if os.geteuid() == 0 else ("--user", "--map-root-user", "--map-auto")
UNSHARE = ("unshare", *USER, "--net", "--mount", "--pid", "--fork", "--kill-child")

SETUP = f"""
set -eu
mount -t proc proc /proc
mount -t tmpfs run /run
mkdir -p /run/netns /run/firerunner /run/etc
cp /bin/busybox /run/firerunner/
cp {DHCP_SH} /run/firerunner/dhcp.sh
chmod 755 /run/firerunner/dhcp.sh
ip link set lo up
ip netns add outside
ip link add up0 type veth peer name eth0 netns outside
ip addr add {HOST}/24 dev up0
ip link set up0 up
ip route add default via 192.0.2.1
in_outside() {{ ip netns exec outside "$@"; }}
in_outside ip link set lo up
in_outside ip addr add 192.0.2.1/24 dev eth0
for address in {" ".join(OUTSIDE)}; do in_outside ip addr add "$address/32" dev eth0; done
in_outside ip link set eth0 up
echo ready
sleep infinity
"""

SERVE = """
import selectors, socket, sys
waiting = selectors.DefaultSelector()
for port in map(int, sys.argv[1:]):
    listener = socket.create_server(("0.0.0.0", port))
    waiting.register(listener, selectors.EVENT_READ)
print("serving", flush=True)
while True:
    for key, _ in waiting.select():
        connection, peer = key.fileobj.accept()
        connection.sendall(peer[0].encode())
        connection.close()
"""


@dataclass(frozen=True, slots=True)
class World:
    """Commands run on the host, or in a namespace of it."""

    pid: int
    folder: Path

    def run(self, *command: str, where: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """On the host; `where`: in that namespace."""
        done = subprocess.run(
            self._into(command, where), capture_output=True, text=True, check=False, timeout=60
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done

    def start(self, *command: str, where: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._into(command, where), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def _into(self, command: tuple[str, ...], where: str) -> list[str]:
        user = ["-U", "--preserve-credentials"] if USER else []
        enter = ["nsenter", "-t", str(self.pid), *user, "-n", "-m", "-p", "--"]
        return [*enter, *(["ip", "netns", "exec", where] if where else []), *command]

    def network(self, verb: str, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`network.sh VERB CONF …`."""
        return self.run(str(NETWORK_SH), verb, str(self.folder / "host.conf"), *more, check=check)

    def configure(self, changes: Mapping[str, str]) -> None:
        lines = [f'{key}="{value}"\n' for key, value in (CONF | dict(changes)).items()]
        (self.folder / "host.conf").write_text("".join(lines))

    def add_guest(self, name: str) -> None:
        """A machine appears, as Flintlock attaches it. It has no address yet."""
        number = name[-1]
        self.run("ip", "netns", "add", name)
        self.run(
            *f"ip link add fltap000000{number} type veth peer name eth1 netns {name}".split(),
            *f"address 02:00:00:00:00:0{number}".split(),
        )
        self.run(*f"ip link set fltap000000{number} master {CONF['BRIDGE']} up".split())
        self.run("ip", "link", "set", "lo", "up", where=name)
        self.run("ip", "link", "set", "eth1", "up", where=name)

    def lease(self, name: str) -> str:
        """The guest's own DHCP client gets an address; what it is."""
        ask = "/run/firerunner/busybox udhcpc -i eth1 -q -n -t 10 -T 1 -s $0"
        said = self.run(
            *(
                "sh",
                "-c",
                f"mount -t tmpfs etc /etc && {ask} && cat /etc/resolv.conf",
            ),
            "/run/firerunner/dhcp.sh",
            where=name,
        )
        assert said.stdout.endswith(f"nameserver {CONF['DNS']}\n"), said.stdout
        shown = self.run("ip", "-4", "-brief", "address", "show", "dev", "eth1", where=name).stdout.split()
        return shown[2].partition("/")[0]

    def reaches(self, name: str, address: str, port: int) -> str:
        """As whom the guest is seen there; empty if it gets no connection."""
        code = f"import socket; print(socket.create_connection(('{address}', {port}), 1.5).recv(99).decode())"
        return self.run(sys.executable, "-c", code, where=name, check=False).stdout.strip()


@contextlib.contextmanager
def world(folder: Path, **changes: str) -> Iterator[World]:
    """The host's network is up, with its DHCP server; two guests have addresses from it."""
    with subprocess.Popen([*UNSHARE, "bash", "-c", SETUP], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            made = World(child_of(holder.pid), folder)
            made.configure(changes)
            yield made
        finally:
            holder.kill()


@contextlib.contextmanager
def background(process: subprocess.Popen[str], until: str) -> Iterator[None]:
    """Runs while the block does; begins when it has said `until`."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if until in line:
                break
        yield
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def child_of(pid: int) -> int:
    """The process in the new namespaces: unshare --fork has one child."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise AssertionError("unshare has no child")
