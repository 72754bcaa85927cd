"""Debian's tinyproxy on loopback, with a password, and what went through it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from firerunner.demo.stage import free_port

START_S = 20.0
USER, PASSWORD = "runner", "s3cret"

CONFIG = """
Port {port}
Listen 127.0.0.1
Timeout 60
LogFile "{log}"
LogLevel Connect
MaxClients 50
BasicAuth {user} {password}
"""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def requests(self) -> list[str]:
        """The request lines that it has served, for example `CONNECT gitlab.test:443 HTTP/1.1`."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.partition("): ")[2] for line in lines if "Request (file descriptor" in line]


@contextlib.asynccontextmanager
async def proxy(directory: Path, hosts: Mapping[str, str]) -> AsyncIterator[Proxy]:
    """`hosts`: address by name, in a hosts file that the proxy alone sees (in a mount namespace)."""
    port, log = free_port(), directory / "tinyproxy.log"
    config = directory / "tinyproxy.conf"
    config.write_text(CONFIG.format(port=port, log=log, user=USER, password=PASSWORD))
    program = shutil.which("tinyproxy")
    assert program, "apt-get install tinyproxy-bin"
    names = directory / "hosts-of-the-proxy"
    names.write_text("".join(f"{address} {name}\n" for name, address in hosts.items()))
    script = f"mount --bind {names} /etc/hosts && exec {program} -d -c {config}"
    namespace = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    process = await asyncio.create_subprocess_exec(
        *namespace, "sh", "-c", script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(START_S):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield Proxy(port, log)
    finally:
        process.terminate()
        await process.wait()
