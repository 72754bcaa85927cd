"""A world of a test's own: networks, names and services in network namespaces, cut off from the real ones.

`python -m tests.e2e.uplink_world` is the far side: it waits for a line on standard input, then listens.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

PUBLIC, CORPORATE, CORPORATE_SIX, METADATA = "11.22.33.44", "10.123.0.2", "fd00:123::2", "169.254.169.254"
AZURE = "168.63.129.16"
"""The world's addresses."""

HOST_PUBLIC, HOST_CORPORATE, HOST_SIX = "11.22.33.1", "10.123.0.1", "fd00:123::1"
"""Those of the host on which machines run."""

SERVICES = {
    "public": (PUBLIC, (443, 8080)),
    "corporate": (CORPORATE, (80, 443, 5432, 7000)),
    "six": (CORPORATE_SIX, (80,)),
    "metadata": (METADATA, (80, 443)),
    "azure": (AZURE, (80, 443)),
}
HOST_PORTS = (80, 443, 5432)
NAMES = {
    "shop.example.test": PUBLIC,
    "a.trusted.test": CORPORATE,
    "trusted.test": CORPORATE,
    "six.trusted.test": CORPORATE_SIX,
    "me.trusted.test": HOST_CORPORATE,
    "loop.trusted.test": "127.0.0.1",
    "meta.trusted.test": METADATA,
    "azure.trusted.test": AZURE,
}
TEXT = "text.example.test,firerunner was here"


@dataclass(slots=True)
class Services:
    """Say their name and port to who connects, and remember that."""

    visits: list[str] = field(default_factory=list)
    servers: list[asyncio.Server] = field(default_factory=list)

    async def listen(self, name: str, address: str, ports: Sequence[int]) -> None:
        async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            _, port, *_ = writer.get_extra_info("sockname")
            self.visits.append(f"{name}-{port}")
            writer.write(f"{name}-{port}\n".encode())
            await writer.drain()
            writer.close()

        for port in ports:
            self.servers.append(await asyncio.start_server(serve, address, port))


@asynccontextmanager
async def far_side() -> AsyncIterator[None]:
    """Make the world beyond a link of this network namespace."""
    world = subprocess.Popen(
        # A process namespace of its own, so that nothing of it outlives it.
        [
            "unshare",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            sys.executable,
            "-m",
            "tests.e2e.uplink_world",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        await asyncio.to_thread(world.stdout.readline)  # type: ignore[union-attr]
        link(world.pid)
        world.stdin.write("go\n")  # type: ignore[union-attr]
        world.stdin.flush()  # type: ignore[union-attr]
        await asyncio.to_thread(world.stdout.readline)  # type: ignore[union-attr]
        yield
    finally:
        world.kill()
        world.wait()


def link(world: int) -> None:
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(world))
    for address in (f"{HOST_PUBLIC}/24", f"{HOST_CORPORATE}/24", f"{HOST_SIX}/64"):
        run("ip", "address", "add", address, "dev", "near", *(["nodad"] if ":" in address else []))
    run("ip", "link", "set", "near", "up")
    run("ip", "route", "add", "default", "via", PUBLIC)
    run("ip", "route", "add", f"{METADATA}/32", "dev", "near")
    for address in (
        f"{PUBLIC}/24",
        f"{CORPORATE}/24",
        f"{CORPORATE_SIX}/64",
        f"{METADATA}/32",
        f"{AZURE}/32",
    ):
        inside(world, "ip", "address", "add", address, "dev", "far", *(["nodad"] if ":" in address else []))
    inside(world, "ip", "link", "set", "far", "up")


def inside(world: int, *command: str) -> None:
    run("nsenter", "--target", str(world), "--net", *command)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def take_name_server(directory: Path) -> None:
    """Only this mount namespace sees it."""
    ours = directory / "resolv.conf"
    ours.write_text(f"nameserver {CORPORATE}\n")
    run("mount", "--bind", str(ours), str(Path("/etc/resolv.conf").resolve()))


def name_server() -> subprocess.Popen[bytes]:
    records = [f"--host-record={name},{address}" for name, address in NAMES.items()]
    alone = ("--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--pid-file=")
    here = ("--bind-interfaces", f"--listen-address={CORPORATE}", "--user=root", f"--txt-record={TEXT}")
    return subprocess.Popen(["dnsmasq", *alone, *here, *records])


async def world() -> None:
    print("here", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    services = Services()
    for name, (address, ports) in SERVICES.items():
        await services.listen(name, address, ports)
    names = name_server()
    try:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    finally:
        names.kill()
        names.wait()


if __name__ == "__main__":
    asyncio.run(world())
