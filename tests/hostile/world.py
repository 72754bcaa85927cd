"""What a hostile guest might reach: canaries that listen and count, on this computer and beyond it.

`python -m tests.hostile.world` is the far side of an uplink: after a line on standard input it listens, and
prints a line for each visit of what must not be visited.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from tests.e2e.uplink_world import (
    AZURE,
    CORPORATE,
    HOST_CORPORATE,
    HOST_PUBLIC,
    METADATA,
    PUBLIC,
    link,
    name_server,
)

BODY = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\n\r\n{text}"

FAR = {
    "far-public": (PUBLIC, 443),
    "far-corporate": (CORPORATE, 5432),
    "other-public": (PUBLIC, 8080),
    "other-corporate": (CORPORATE, 80),
    "metadata": (METADATA, 80),
    "azure": (AZURE, 80),
}
ALLOWED = frozenset({"far-public", "far-corporate"})
"""What the pool's egress names."""


@dataclass(slots=True)
class Canaries:
    """Small HTTP servers that say `canary-NAME`, and UDP sockets that say nothing; each visit is kept."""

    visits: list[str] = field(default_factory=list)
    servers: list[asyncio.Server] = field(default_factory=list)
    sockets: list[asyncio.DatagramTransport] = field(default_factory=list)

    async def listen(self, name: str, address: str, port: int = 0) -> int:
        """Listen with TCP, and with UDP if the port is ours to choose; returns the port."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.visited(name)
            text = f"canary-{name}\n"
            writer.write(BODY.format(size=len(text), text=text).encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, address, port)
        self.servers.append(server)
        chosen = int(server.sockets[0].getsockname()[1])
        if not port:
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Ear(self, f"{name}-udp"), (address, chosen)
            )
            self.sockets.append(transport)
        return chosen

    def visited(self, name: str) -> None:
        """Somebody came."""
        self.visits.append(name)

    def close(self) -> None:
        """Listen no more."""
        for each in (*self.servers, *self.sockets):
            each.close()


class _Ear(asyncio.DatagramProtocol):
    def __init__(self, canaries: Canaries, name: str) -> None:
        self._canaries, self._name = canaries, name

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._canaries.visited(self._name)


@dataclass(frozen=True, slots=True)
class Around:
    """The canaries of one scene, and where they are: variables of the hostile job."""

    canaries: Canaries
    variables: dict[str, str]


@asynccontextmanager
async def around(mode: str) -> AsyncIterator[Around]:
    """Canaries on this computer, and for `uplink` also the networks beyond it."""
    async with AsyncExitStack() as stack:
        canaries = Canaries()
        stack.callback(canaries.close)
        if mode == "uplink":
            await stack.enter_async_context(_far_side(canaries))
            for name, address, port in (
                ("host-public", HOST_PUBLIC, 80),
                ("host-corporate", HOST_CORPORATE, 5432),
                ("host-corporate", HOST_CORPORATE, 80),
                ("host-loopback", "127.0.0.1", 80),
            ):
                await canaries.listen(name, address, port)
        lan = lan_address()
        ports = {
            "LOOPBACK": await canaries.listen("loopback", "127.0.0.1"),
            "SECOND": await canaries.listen("second-loopback", "127.0.0.2"),
            "LAN": await canaries.listen("lan", lan),
        }
        yield Around(
            canaries,
            {
                **{name: str(port) for name, port in ports.items()},
                "LAN_ADDRESS": lan,
                "HOST_CORPORATE": HOST_CORPORATE,
                "PUBLIC": PUBLIC,
                "CORPORATE": CORPORATE,
            },
        )


def lan_address() -> str:
    """An address of this computer that is not loopback, where it has one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(sock.getsockname()[0])


@asynccontextmanager
async def _far_side(canaries: Canaries) -> AsyncIterator[None]:
    """The world beyond a link of this network namespace; its visits become ours."""
    far = await asyncio.create_subprocess_exec(
        *("unshare", "--net", "--pid", "--fork", "--kill-child"),
        *(sys.executable, "-m", "tests.hostile.world"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert far.stdin is not None
    assert far.stdout is not None
    heard = None
    try:
        await far.stdout.readline()
        link(far.pid)
        far.stdin.write(b"go\n")
        await far.stdin.drain()
        await far.stdout.readline()
        heard = asyncio.create_task(_hear(far.stdout, canaries))
        yield
    finally:
        far.kill()
        await far.wait()
        if heard is not None:
            await heard


async def _hear(far: asyncio.StreamReader, canaries: Canaries) -> None:
    async for line in far:
        canaries.visited(line.decode().strip())


class _Printing(Canaries):
    def visited(self, name: str) -> None:
        if name not in ALLOWED:
            print(name, flush=True)


async def _world() -> None:
    print("here", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    canaries = _Printing()
    for name, (address, port) in FAR.items():
        await canaries.listen(name, address, port)
    names = name_server()
    try:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    finally:
        names.kill()
        names.wait()


if __name__ == "__main__":
    asyncio.run(_world())
