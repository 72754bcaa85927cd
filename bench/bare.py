"""The floor: the same image in a bare QEMU of the same shape, with nothing of FireRunner's service.

In place of the gate there is a server of a few lines. Its answer to `booted` puts a program of the bench in
the place of `gitlab-runner`: one that waits until it is told and then becomes the real one, with the real
runner token and GitLab's own address (a runner that is started by hand in a guest that is up), or a script.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import tarfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.facts import accelerator_of
from bench.scene import DISK_MIB, GIVE_UP_S, MEMORY_MIB
from firerunner.demo.stage import GITLAB_NAME
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.gate import GuestFacts
from firerunner.gate.welcome import welcome
from firerunner.guest.boot import BootParameters
from firerunner.images import Image
from firerunner.machines.qemu.command import TRANSLATION_CACHE_MIB, kernel_arguments
from firerunner.machines.qemu.tsc import measure_tsc_khz

MACHINE_ID = "fr-benchfloor00"
PROGRAM = "usr/local/sbin/gitlab-runner"
"""Found before the image's own, /usr/local/bin/gitlab-runner: PID 1's PATH begins with this folder."""
BY_HAND = b"""#!/run/firerunner/busybox sh
until /run/firerunner/busybox wget -q -O /dev/null http://10.0.2.2/go; do :; done
exec /usr/local/bin/gitlab-runner "$@"
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all bare machines of a run have in common."""

    image: Image
    gitlab_host: str
    gitlab_port: int
    token: str
    accelerator: str
    tsc_khz: int


async def new_bench(image: Image, gitlab: FakeGitLab) -> Bench:
    """With a runner of its own in this GitLab, whose tag is `floor`."""
    return Bench(
        image=image,
        gitlab_host=GITLAB_NAME,
        gitlab_port=int(gitlab.url.rpartition(":")[2]),
        token=gitlab.add_runner(["floor"], run_untagged=False),
        accelerator=await accelerator_of(image),
        tsc_khz=measure_tsc_khz(),
    )


@dataclass(slots=True)
class BareGuest:
    """One of them."""

    program: bytes
    up: asyncio.Event = field(default_factory=asyncio.Event)
    """Its runner may be started now."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    qemu: asyncio.subprocess.Process | None = None
    exit_code: int | None = None
    """Its program's; None until it has said that it ends."""

    async def until_up(self) -> None:
        """Return when it waits to be told."""
        async with asyncio.timeout(GIVE_UP_S):
            await self.up.wait()

    def start_runner(self) -> float:
        """Let it become gitlab-runner; the time at which it was told (Unix seconds)."""
        self.started.set()
        return time.time()

    async def until_ended(self) -> None:
        """Return when it has rebooted, which ends its QEMU. Raises RuntimeError if its program failed."""
        assert self.qemu is not None
        async with asyncio.timeout(GIVE_UP_S):
            await self.qemu.wait()
        if self.exit_code != 0:
            raise RuntimeError(f"the program in the bare guest ended with {self.exit_code}")


@contextlib.asynccontextmanager
async def bare_guest(bench: Bench, directory: Path, program: bytes = BY_HAND) -> AsyncIterator[BareGuest]:
    """Boots while the block lasts; killed at its end if it still runs."""
    guest = BareGuest(program)
    server = await asyncio.start_server(
        lambda reader, writer: _answer(reader, writer, bench, guest), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    boot, disk = directory / "boot", directory / "disk.raw"
    boot.write_text(
        BootParameters(MACHINE_ID, f"http://10.0.2.2/m/{MACHINE_ID}", credential="floor").format()
    )
    with disk.open("wb") as file:
        file.truncate(DISK_MIB << 20)
    make = await asyncio.create_subprocess_exec(
        "/sbin/mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "lazy_itable_init=1", str(disk)
    )
    await make.wait()
    try:
        with (directory / "console").open("wb") as console:
            guest.qemu = await asyncio.create_subprocess_exec(
                *_command(bench, boot, disk, port),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=asyncio.subprocess.STDOUT,
            )
        yield guest
    finally:
        guest.started.set()
        if guest.qemu is not None and guest.qemu.returncode is None:
            guest.qemu.kill()
            await guest.qemu.wait()
        server.close()
        await server.wait_closed()


def _command(bench: Bench, boot: Path, disk: Path, gate_port: int) -> list[str]:
    arguments = kernel_arguments(
        bench.tsc_khz, "fr.address=10.0.2.15/24", "fr.gateway=10.0.2.2", "fr.root=vda", "fr.overlay=vdb"
    )
    network = (
        "user,id=n0,restrict=on,net=10.0.2.0/24,host=10.0.2.9,dns=10.0.2.8"
        f",guestfwd=tcp:10.0.2.2:80-cmd:socat - TCP:127.0.0.1:{gate_port}"
        f",guestfwd=tcp:10.0.2.100:{bench.gitlab_port}-cmd:socat - TCP:127.0.0.1:{bench.gitlab_port}"
    )
    kvm = bench.accelerator == "kvm"
    files = bench.image.files
    return [
        "qemu-system-x86_64", "-machine", "microvm,acpi=on,rtc=on",
        "-accel", "kvm" if kvm else f"tcg,thread=multi,tb-size={TRANSLATION_CACHE_MIB}",
        "-cpu", "host" if kvm else "max", "-m", str(MEMORY_MIB), "-smp", "1",
        "-kernel", str(files.kernel), "-initrd", str(files.initramfs), "-append", arguments,
        "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
        "-drive", f"id=d0,file={files.root},format=raw,if=none,readonly=on",
        "-device", "virtio-blk-device,drive=d0",
        "-drive", f"id=d1,file={disk},format=raw,if=none", "-device", "virtio-blk-device,drive=d1",
        "-netdev", network, "-device", "virtio-net-device,netdev=n0",
        "-device", "virtio-rng-device", "-fw_cfg", f"name=opt/org.firerunner/boot,file={boot}",
    ]  # fmt: skip


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bench: Bench, guest: BareGuest
) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        head = await reader.readuntil(b"\r\n\r\n")
        body = _welcome(bench, guest.program) if b"/guest/booted" in head else b""
        length = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
        said = await reader.readexactly(int(length[1])) if length else b""
        if b"/guest/ended" in head:
            guest.exit_code = int(said.partition(b"=")[2])
        if head.startswith(b"GET /go "):
            guest.up.set()
            await guest.started.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
    writer.close()


def _welcome(bench: Bench, program: bytes) -> bytes:
    """What the gate would give, but with GitLab in its place, the real token and the bench's program."""
    url = f"http://{bench.gitlab_host}:{bench.gitlab_port}"
    facts = GuestFacts(url, url, hosts=(("10.0.2.100", bench.gitlab_host),))
    packed = io.BytesIO(welcome(MACHINE_ID, bench.token, facts, epoch_s=int(time.time())))
    with tarfile.open(fileobj=packed, mode="a", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(PROGRAM)
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return packed.getvalue()
