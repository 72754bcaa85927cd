"""The keeper's name service: what the pool names, what its domains cover, and what the host is asked."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from firerunner.machines.qemu import names, outward, resolver
from firerunner.machines.qemu.outward import Outward
from firerunner.machines.qemu.resolver import Resolver

pytestmark = pytest.mark.anyio

TABLE = {"gitlab.test": "10.0.2.100"}
TXT = 16


def query(name: str, kind: int = names.A, number: int = 7) -> bytes:
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def datagrams(address: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((address, 0))
    return sock


@asynccontextmanager
async def serving(out: Outward | None) -> AsyncIterator[socket.socket]:
    """A socket whose datagrams a resolver gets and answers."""
    with datagrams() as ours, datagrams() as guest:
        guest.connect(ours.getsockname())
        task = asyncio.create_task(Resolver(ours, TABLE, out).serve())
        try:
            async with asyncio.timeout(20):
                yield guest
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def ask(guest: socket.socket, packet: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(guest, packet)
    return await loop.sock_recv(guest, 4096)


def code(said: bytes) -> int:
    return said[3] & 0x0F


@pytest.fixture
def host_names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    known: dict[str, list[str]] = {}

    async def look_up(name: str) -> list[str]:
        return known.get(name, [])

    monkeypatch.setattr(outward, "_addresses_of", look_up)
    return known


async def test_named_destinations_are_known_and_nonsense_is_outlived() -> None:
    async with serving(None) as guest:
        for packet in (b"", b"nonsense", b"x" * 2000):
            guest.send(packet)
        said = await ask(guest, query("gitlab.test"))
        unknown = await ask(guest, query("example.com"))

    assert said.startswith(b"\0\7")
    assert said.endswith(bytes([10, 0, 2, 100]))
    assert code(unknown) == names.NO_SUCH_NAME


async def test_a_name_below_a_domain_gets_one_address_for_ever(host_names: dict[str, list[str]]) -> None:
    host_names |= {"a.corp.test": ["192.0.2.1"], "b.corp.test": ["2001:db8::1"]}
    async with serving(Outward([("corp.test", None)], resolves=False)) as guest:
        first, again, other = [await ask(guest, query(f"{name}.corp.test")) for name in "aab"]
        unknown, beside = [await ask(guest, query(name)) for name in ("no.corp.test", "corp.test")]

    assert first[-4:] == again[-4:]
    assert first[-4:] != other[-4:]
    assert {first[-4:-2], other[-4:-2]} == {bytes([198, 18])}
    assert {code(unknown), code(beside)} == {names.NO_SUCH_NAME}


async def test_with_the_internet_the_hosts_servers_are_asked_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    conf = tmp_path / "resolv.conf"
    conf.write_text("# comment\nnameserver 127.0.0.2\nsearch x\nnameserver 127.0.0.1\n")
    with datagrams() as server:
        monkeypatch.setattr(resolver, "RESOLV_CONF", conf)
        monkeypatch.setattr(names, "PORT", server.getsockname()[1])

        async def answer() -> bytes:
            asked, sender = await loop.sock_recvfrom(server, 4096)
            server.sendto(b"??" + asked[2:] + b"forged", sender)
            server.sendto(asked + b"answer", sender)
            return asked

        async with serving(Outward([], resolves=True)) as guest:
            answering = asyncio.create_task(answer())
            said = await ask(guest, query("example.com", TXT, number=9))
            asked = await answering
            six = await ask(guest, query("example.com", names.AAAA))

    assert said == query("example.com", TXT, number=9) + b"answer"
    assert asked[2:] == query("example.com", TXT)[2:]
    assert (code(six), six[6:8]) == (names.NO_ERROR, b"\0\0")


async def test_a_host_without_an_answering_server_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with datagrams() as closed:
        monkeypatch.setattr(names, "PORT", closed.getsockname()[1])
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    monkeypatch.setattr(resolver, "RESOLV_CONF", tmp_path / "resolv.conf")
    async with serving(Outward([], resolves=True)) as guest:
        assert code(await ask(guest, query("example.com"))) == names.SERVER_FAILURE


def test_a_host_without_a_list_of_servers_asks_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resolver, "RESOLV_CONF", tmp_path / "none")

    assert resolver.name_servers() == ["127.0.0.1"]
