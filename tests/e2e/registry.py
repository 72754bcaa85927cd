"""Debian's docker-registry on loopback, and container images made of a root file system."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from firerunner.demo.stage import free_port

START_S = 30.0


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry."""

    port: int
    address: str
    """host:port, by which it is reached on this computer."""


@contextlib.asynccontextmanager
async def registry(
    directory: Path, *, certificate: Path | None = None, key: Path | None = None, htpasswd: Path | None = None
) -> AsyncIterator[Registry]:
    """With a certificate it speaks TLS, with an htpasswd file it wants a password."""
    port = free_port()
    settings: dict[str, Any] = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(directory / "blobs")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of this test"},
        "log": {"level": "error"},
    }
    if certificate is not None:
        settings["http"]["tls"] = {"certificate": str(certificate), "key": str(key)}
    if htpasswd is not None:
        settings["auth"] = {"htpasswd": {"realm": "test", "path": str(htpasswd)}}
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "registry.yml"
    config.write_text(yaml.safe_dump(settings))
    program = shutil.which("docker-registry")
    assert program, "apt-get install docker-registry"
    process = await asyncio.create_subprocess_exec(
        program, "serve", str(config), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        await _answers(f"{'https' if certificate else 'http'}://127.0.0.1:{port}/v2/")
        yield Registry(port, f"127.0.0.1:{port}")
    finally:
        process.terminate()
        await process.wait()


async def _answers(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as http, asyncio.timeout(START_S):  # noqa: S501
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await http.get(url)).status_code in {200, 401}:
                    return
            await asyncio.sleep(0.1)


def docker_archive(root: Path, archive: Path, tag: str, config: Mapping[str, Any] | None = None) -> None:
    """Make a root file system (a tar) a container image, in the form of `docker save`."""
    content = root.read_bytes()
    described = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "a test"}],
    }
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, "w") as tar:
        for name, blob in (
            ("config.json", json.dumps(described).encode()),
            ("layer.tar", content),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(blob)
            tar.addfile(entry, io.BytesIO(blob))


async def push(archive: Path, target: str, *options: str) -> None:
    """Push a docker archive to `host:port/repository:tag` with skopeo."""
    await program(
        "skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", *options,
        f"docker-archive:{archive}", f"docker://{target}",
    )  # fmt: skip


async def program(*argv: str | Path) -> str:
    """Run it; its output. Fails the test with what it said."""
    process = await asyncio.create_subprocess_exec(
        *map(str, argv), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"{argv}: {out.decode()[-2000:]}"
    return out.decode()


def busybox_root(path: Path, extra: Mapping[str, bytes] | None = None) -> None:
    """The smallest root file system in which a shell works: Debian's static busybox."""
    busybox = Path("/bin/busybox").read_bytes()
    applets: Sequence[str] = ("sh", "cat", "echo", "httpd", "ls", "nc", "sleep", "uname", "wget")
    with tarfile.open(path, "w") as tar:
        for name in ("bin", "etc", "tmp", "www"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content in {"bin/busybox": busybox, **(extra or {})}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for name in applets:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
