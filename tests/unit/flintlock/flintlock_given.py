"""Given: a microVM that Flintlock takes and boots, and a client for a fake."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firerunner.fakes.flintlock import FakeFlintlock, Identity
from firerunner.machines.flintlock.channel import Endpoint, Tls
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.proto import types_pb2
from tests.certificates import authority

NAMESPACE = "ours"
WAIT_S = 20.0


def spec(name: str = "fr-abcdefghijkl-1", **changes: Any) -> types_pb2.MicroVMSpec:
    made = types_pb2.MicroVMSpec(
        id=name, namespace=NAMESPACE, vcpu=2, memory_in_mb=1024, provider="firecracker"
    )
    made.kernel.image = "registry.example.com/ci/kernel:1"
    made.kernel.filename = "boot/vmlinux"
    made.root_volume.id = "root"
    made.root_volume.source.container_source = "registry.example.com/ci/root@sha256:" + "0" * 64
    made.interfaces.add(device_id="eth1", type=types_pb2.NetworkInterface.TAP, guest_mac="06:00:0a:00:00:02")
    made.metadata["user-data"] = base64.b64encode(b"hello").decode()
    for field, value in changes.items():
        setattr(made, field, value)
    return made


@asynccontextmanager
async def client_of(fake: FakeFlintlock, **how: Any) -> AsyncIterator[FlintlockClient]:
    endpoint = Endpoint(fake.address, how.pop("tls", None), how.pop("token", None))
    client = FlintlockClient(endpoint, **how)
    try:
        yield client
    finally:
        await client.aclose()


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(WAIT_S):
        while not (found := await look()):
            await asyncio.sleep(0.01)
    return found


@dataclass
class Papers:
    """Authorities of hosts and of clients, and what they have signed."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "clients").mkdir()
        self.hosts = authority(self.folder)
        self.clients = authority(self.folder / "clients")

    def host(self, name: str = "127.0.0.1", *, expired: bool = False, asks: bool = False) -> Identity:
        chain, key = self.hosts.server(self.folder, [name], expired=expired)
        client_ca = self.clients.file.read_bytes() if asks else None
        return Identity(chain.read_bytes(), key.read_bytes(), client_ca)

    def ours(self) -> Tls:
        chain, key = self.clients.server(self.folder / "clients", ["firerunner"])
        return Tls(self.hosts.file, chain, key)
