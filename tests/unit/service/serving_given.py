"""Givens for the tests of serving: an application to serve, certificates, and clients on raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import Receive, Scope, Send

from firerunner.serving import Bounds, Certificate, Served, served
from firerunner.serving.whole import has_come

SHORT = Bounds(head_s=0.3, keep_alive_s=30, stalled_s=0.3, connections=8)
"""So that a test does not wait long for a cut."""
LIFE_S = 3 * SHORT.head_s
"""Longer than any of those time-outs."""


@dataclass
class App:
    """`/poll` waits until `release`, `/upload` reads to the end, `/refuse` answers before it reads, `/flood`
    sends more than anybody's buffers hold, `/gone` waits until its client is, all else says its path."""

    release: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)
    missed: asyncio.Event = field(default_factory=asyncio.Event)
    uploaded: int = 0
    here: list[bool] = field(default_factory=list)
    """Of each request, whether its body had come when it was given to us."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.set()
        self.here.append(has_come(scope))
        body = scope["path"].encode()
        if scope["path"] == "/poll":
            await self.release.wait()
        if scope["path"] == "/gone":
            while (await receive())["type"] != "http.disconnect":
                pass
            self.missed.set()
        if scope["path"] == "/upload":
            more = True
            while more:
                message = await receive()
                more = message.get("more_body", False)
                self.uploaded += len(message.get("body", b""))
        if scope["path"] == "/flood":
            body = b"x" * (64 << 20)
        head = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        for at in range(0, len(body), 65_536):
            last = at + 65_536 >= len(body)
            await send({"type": "http.response.body", "body": body[at : at + 65_536], "more_body": not last})


@dataclass
class Serving:
    """What is served, and where."""

    app: App
    handle: Served
    address: tuple[str, int]

    async def connect(self, **how: object) -> Client:
        reader, writer = await asyncio.open_connection(*self.address, **how)  # type: ignore[arg-type]
        return Client(reader, writer)

    async def emptied(self) -> None:
        """Returns when nobody is connected any more."""
        while self.handle.connections:
            await asyncio.sleep(0.01)


@dataclass
class Client:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, text: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.writer.write(text)
            await self.writer.drain()

    async def answer(self) -> bytes:
        """The body of one answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return await self.reader.readexactly(length)

    async def rest(self) -> bytes:
        """All that comes until the connection ends, however it ends."""
        got = b""
        with contextlib.suppress(ConnectionError):
            while piece := await self.reader.read(65_536):
                got += piece
        return got

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(bounds: Bounds = SHORT, certificate: Certificate | None = None) -> AsyncIterator[Serving]:
    """The application, on a port of loopback."""
    app = App()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    address = listener.getsockname()
    async with served(app, listener, bounds=bounds, certificate=certificate) as handle:
        yield Serving(app, handle, address)


@contextlib.asynccontextmanager
async def connected(place: Serving, **how: object) -> AsyncIterator[Client]:
    """A client that is gone when the block ends."""
    client = await place.connect(**how)
    try:
        yield client
    finally:
        await client.close()


def write_certificate(
    folder: Path, name: str = "one", password: bytes | None = None
) -> tuple[Certificate, int]:
    """A self-signed certificate for loopback, over what was there; and its serial number."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "firerunner")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    files = Certificate(folder / f"{name}.crt", folder / f"{name}.key")
    files.chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    assert files.key is not None
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    return files, certificate.serial_number


def trusting(certificate: Certificate) -> ssl.SSLContext:
    """A client that trusts this certificate and no other."""
    return ssl.create_default_context(cafile=str(certificate.chain))
