"""The whole service's web door: TLS, hooks, and both anew at SIGHUP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from serving_given import trusting, write_certificate

pytestmark = pytest.mark.anyio
CONFIG = """
state_dir: {folder}/state
listen: {{web: "127.0.0.1:{web}", gate: "127.0.0.1:{gate}", web_cert_file: one.crt, web_key_file: one.key}}
gitlab: {{url: "http://127.0.0.1:9", webhook_secret: {secret}}}
pools: [{{name: small, runner_token: glrt-x, image: none, vcpu: 1, memory_mib: 512, disk_mib: 64}}]
"""
JOB = {"object_kind": "build", "build_id": 1, "build_status": "pending", "project_id": 7}


@dataclass
class Service:
    """`firerunner serve`, running."""

    folder: Path
    web: int
    gate: int
    process: asyncio.subprocess.Process

    def write(self, secret: str) -> None:
        text = CONFIG.format(folder=self.folder, web=self.web, gate=self.gate, secret=secret)
        (self.folder / "config.yaml").write_text(text)

    async def hook(self, trust: ssl.SSLContext, secret: str) -> int:
        """The status that a hook gets; 0 if it could not be sent."""
        async with httpx.AsyncClient(verify=trust, trust_env=False) as http:
            try:
                answer = await http.post(
                    f"https://127.0.0.1:{self.web}/webhook", json=JOB, headers={"X-Gitlab-Token": secret}
                )
            except httpx.TransportError:
                return 0
        return answer.status_code

    async def until_hook_gets(self, status: int, trust: ssl.SSLContext, secret: str) -> None:
        while await self.hook(trust, secret) != status:
            await asyncio.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    write_certificate(tmp_path)
    web, gate = free_port(), free_port()
    config = tmp_path / "config.yaml"
    first = CONFIG.format(folder=tmp_path, web=web, gate=gate, secret="first")
    config.write_text(first)
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "firerunner", "serve", "--config", str(config), stderr=log, stdout=log
        )
    try:
        yield Service(tmp_path, web, gate, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_hooks_come_over_tls_and_secret_and_certificate_change_without_a_restart(
    service: Service,
) -> None:
    old = ssl.create_default_context(cafile=str(service.folder / "one.crt"))
    await service.until_hook_gets(200, old, "first")
    assert await service.hook(old, "second") == 401

    files, _ = write_certificate(service.folder)
    service.write("second")
    service.process.send_signal(signal.SIGHUP)

    await service.until_hook_gets(200, trusting(files), "second")
    assert await service.hook(trusting(files), "first") == 401
    assert await service.hook(old, "second") == 0
    assert files.key
    files.key.write_text(base64.b64encode(b"no key").decode())
    service.write("third")
    service.process.send_signal(signal.SIGHUP)
    await service.until_hook_gets(200, trusting(files), "third")
    assert "one.key" in (service.folder / "log").read_text()
