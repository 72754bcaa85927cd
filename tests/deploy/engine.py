"""A container engine of a test's own: podman and its storage, in namespaces that end with the test."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firerunner.images.apt import host_sources

BASE = "localhost/base"
_SETTINGS = """
[containers]
cgroups = "disabled"
netns = "host"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
tmp_dir = "{0}/tmp"
"""
_STORAGE = """
[storage]
driver = "overlay"
graphroot = "{0}/graph"
runroot = "{0}/run"
"""
_HOLD = """
mkdir -p /var/lib/containers
mount -t tmpfs none /var/lib/containers # where it remembers what it has seen of images
# crun takes version 2 of control groups alone; none is used.
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
fi
echo ready
exec sleep infinity
"""


@dataclass(frozen=True)
class Engine:
    """podman, as root."""

    folder: Path
    holder: int

    def podman(self, *arguments: str | Path, status: int | None = 0, timeout_s: float = 1500) -> str:
        """What it prints on both streams. Fails if it ends with another status; None: any is right."""
        done = subprocess.run(
            [
                *("nsenter", f"--target={self.holder}", "--mount", "--pid"),
                *("podman", "--log-level=fatal", *map(str, arguments)),
            ],
            env={
                **os.environ,
                "CONTAINERS_CONF": str(self.folder / "containers.conf"),
                "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert status is None or done.returncode == status, done.stdout[-4000:]
        return done.stdout

    def inspect(self, kind: str, name: str) -> dict[str, Any]:
        """An `image` or a `container`."""
        found: list[dict[str, Any]] = json.loads(self.podman("inspect", "--type", kind, name))
        return found[0]

    def load_base(self) -> None:
        """Debian 12 as `BASE`, of this computer's mirrors; pip in it finds what pip finds here."""
        sources = self.folder / "sources.list"
        found = asyncio.run(host_sources("bookworm"))
        sources.write_text("".join(f"{each.line()}\n" for each in found))
        hooks = [f"--customize-hook=upload {_pip_settings(self.folder)} /etc/pip.conf"]
        certificates = Path("/etc/ssl/certs/ca-certificates.crt")
        hooks.append(f"--customize-hook=upload {certificates} /etc/pip-ca.crt")
        root = self.folder / "base.tar"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", *hooks, "bookworm", str(root), str(sources)],
            check=True,
            capture_output=True,
            timeout=300,
        )
        self.podman("import", "--quiet", root, BASE)
        root.unlink()


def _pip_settings(folder: Path) -> Path:
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = {"cert": "/etc/pip-ca.crt"}
    for line in said.splitlines():
        key, _, value = line.partition("=")
        if (name := key.rpartition(".")[2]) in {"index-url", "extra-index-url", "proxy", "trusted-host"}:
            settings[name] = value.strip("'\"")
    file = folder / "pip.conf"
    file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items()))
    return file


@contextlib.contextmanager
def running() -> Iterator[Engine]:
    """Without an image; gone with all that it has afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="firerunner-engine-"))
    (folder / "containers.conf").write_text(_SETTINGS.format(folder))
    (folder / "storage.conf").write_text(_STORAGE.format(folder))
    unshare = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
    holder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *unshare, "sh", "-c", _HOLD], stdout=subprocess.PIPE, text=True
    )
    try:
        with holder:
            try:
                assert holder.stdout is not None
                assert holder.stdout.readline() == "ready\n"
                first = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()[0]
                yield Engine(folder, int(first))
            finally:
                holder.kill()
    finally:
        shutil.rmtree(folder)
