"""The floor: the same image in a bare QEMU, whose runner asks the same GitLab directly.

It is started at the moment the job becomes pending. In place of the gate there is a server of a few
lines that hands out a `config.toml` with the real runner token; nothing of FireRunner's service takes
part.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from firerunner.gate import GuestFacts
from firerunner.gate.welcome import welcome
from firerunner.guest.boot import BootParameters
from firerunner.images import Image

MACHINE_ID = "fr-benchfloor00"


@contextlib.asynccontextmanager
async def bare_machine(
    image: Image,
    directory: Path,
    *,
    gitlab_port: int,
    gitlab_host: str,
    token: str,
    tsc_khz: int,
    accelerator: str,
) -> AsyncIterator[None]:
    """A QEMU that runs one job while the block lasts. The caller has put the job into GitLab."""
    server = await asyncio.start_server(
        lambda reader, writer: _answer(reader, writer, token, gitlab_host, gitlab_port), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    boot, disk = directory / "boot", directory / "disk.raw"
    boot.write_text(
        BootParameters(MACHINE_ID, f"http://10.0.2.2/m/{MACHINE_ID}", credential="floor").format()
    )
    with disk.open("wb") as file:
        file.truncate(1024 << 20)
    make = await asyncio.create_subprocess_exec(
        "/sbin/mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1", str(disk)
    )
    await make.wait()
    qemu = await asyncio.create_subprocess_exec(
        *_command(image, boot, disk, port, gitlab_port, tsc_khz, accelerator),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=(directory / "console").open("wb"),
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield
        async with asyncio.timeout(60):
            await qemu.wait()
    finally:
        if qemu.returncode is None:
            qemu.kill()
            await qemu.wait()
        server.close()
        await server.wait_closed()


def _command(
    image: Image, boot: Path, disk: Path, gate_port: int, gitlab_port: int, tsc_khz: int, accelerator: str
) -> list[str]:
    arguments = (
        "console=ttyS0 quiet panic=-1 reboot=t no_timer_check cryptomgr.notests "
        f"tsc_early_khz={tsc_khz} fr.address=10.0.2.15/24 fr.gateway=10.0.2.2 fr.root=vda fr.overlay=vdb"
    )
    network = (
        "user,id=n0,restrict=on,net=10.0.2.0/24,host=10.0.2.9,dns=10.0.2.8"
        f",guestfwd=tcp:10.0.2.2:80-cmd:socat - TCP:127.0.0.1:{gate_port}"
        f",guestfwd=tcp:10.0.2.100:{gitlab_port}-cmd:socat - TCP:127.0.0.1:{gitlab_port}"
    )
    processor = "host" if accelerator == "kvm" else "max"
    return [
        "qemu-system-x86_64", "-M", f"microvm,accel={accelerator},rtc=on", "-cpu", processor, "-m", "256",
        "-smp", "1",
        "-kernel", str(image.files.kernel), "-initrd", str(image.files.initramfs), "-append", arguments,
        "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-drive", f"id=d0,file={image.files.root},format=raw,if=none,readonly=on",
        "-device", "virtio-blk-device,drive=d0",
        "-drive", f"id=d1,file={disk},format=raw,if=none", "-device", "virtio-blk-device,drive=d1",
        "-netdev", network, "-device", "virtio-net-device,netdev=n0",
        "-device", "virtio-rng-device", "-fw_cfg", f"name=opt/org.firerunner/boot,file={boot}",
    ]  # fmt: skip


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, token: str, host: str, port: int
) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        head = await reader.readuntil(b"\r\n\r\n")
        body = _welcome(token, host, port) if b"/guest/booted" in head else b""
        status = b"200 OK" if body else b"204 No Content"
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body if body else b"\r\n")
        await writer.drain()
    writer.close()


def _welcome(token: str, host: str, port: int) -> bytes:
    """What the gate would give, but with GitLab in the gate's place and the real token for a credential."""
    url = f"http://{host}:{port}"
    return welcome(
        MACHINE_ID, token, GuestFacts(url, url, hosts=(("10.0.2.100", host),)), epoch_s=int(time.time())
    )
