"""A Debian of a test's own, made by mmdebstrap, that boots its own systemd in namespaces. Needs root."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from firerunner.demo.stage import cache_dir
from tests.deploy.world import child_of

INCLUDE = "ca-certificates,dbus,systemd-sysv"
"""And nothing else but what every Debian has: what FireRunner needs is the installer's to bring."""
WAIT_S = 60.0

BOOT = r"""
set -eu
root=$0
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
for each in null zero full random urandom tty; do
    touch "$root/dev/$each"
    mount --bind "/dev/$each" "$root/dev/$each"
done
mkdir "$root/dev/net" "$root/dev/pts" "$root/dev/shm"
mknod -m 666 "$root/dev/net/tun" c 10 200
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
ip link set lo up
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
exec < /dev/null
container=other exec /lib/systemd/systemd
"""


@dataclass(frozen=True, slots=True)
class Debian:
    """It has booted. Its network is its own, without a way out; `online` commands have this computer's."""

    pid: int
    root: Path

    def run(self, *command: str, online: bool = False, status: int | None = 0) -> str:
        """What the command says. `status`: what it has to end with; None: anything."""
        spaces = ["-m", "-p", "-u", "-i", "-C", *([] if online else ["-n"])]
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), *spaces, "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            timeout=900,
        )
        assert status in (None, done.returncode), f"{command}: status {done.returncode}\n{done.stdout}"
        return done.stdout

    def beside(self, *command: str) -> list[str]:
        """A command of this computer's, in the network of the other."""
        return ["nsenter", "-t", str(self.pid), "-n", "--", *command]


@contextlib.contextmanager
def debian(suite: str) -> Iterator[Debian]:
    """A fresh one of a suite, which has booted; a gigabyte that nobody keeps."""
    with tempfile.TemporaryDirectory(prefix="firerunner-debian-") as name, _booted(Path(name), suite) as made:
        yield made


@contextlib.contextmanager
def _booted(root: Path, suite: str) -> Iterator[Debian]:
    root.chmod(0o755)
    subprocess.run(["tar", "-x", "-p", "-f", _tarball(suite), "-C", root], check=True)
    _reach_what_we_reach(root)
    with _own_group() as group:
        join = f'echo $$ > {group}/cgroup.procs; exec "$@"'
        spaces = (
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--uts",
            "--ipc",
            "--net",
            "--cgroup",
        )
        booting = subprocess.Popen(["bash", "-c", join, "-", *spaces, "bash", "-c", BOOT, str(root)])
        try:
            made = Debian(child_of(booting.pid), root)
            _wait_until_booted(made)
            yield made
        finally:
            booting.kill()
            booting.wait()


def _tarball(suite: str) -> Path:
    """Made once, and kept beside the images."""
    kept = cache_dir() / f"install-{suite}.tar"
    if not kept.exists():
        fresh = kept.with_suffix(f".{os.getpid()}.tar")
        try:
            made = ["mmdebstrap", "--variant=minbase", f"--include={INCLUDE}", suite, str(fresh)]
            subprocess.run(made, check=True, capture_output=True)
            fresh.replace(kept)
        finally:
            fresh.unlink(missing_ok=True)
    return kept


def _reach_what_we_reach(root: Path) -> None:
    """Names, certificates, and how apt and pip are told to fetch here."""
    for each in ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt", "etc/pip.conf"):
        if Path("/", each).exists():
            (root / each).unlink(missing_ok=True)
            shutil.copy(Path("/", each), root / each)
    for each in Path("/etc/apt/apt.conf.d").glob("*artifact*"):
        shutil.copy(each, root / "etc/apt/apt.conf.d")


@contextlib.contextmanager
def _own_group() -> Iterator[Path]:
    """A control group for all of it, so that its systemd touches nobody else's."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    (mount,) = (fields[1] for fields in mounts if fields[2] == "cgroup2")
    group = Path(mount, f"firerunner-test-{os.getpid()}")
    group.mkdir()
    try:
        yield group
    finally:
        deadline = time.monotonic() + WAIT_S
        while group.exists() and time.monotonic() < deadline:
            for each in sorted(group.rglob("*"), reverse=True):
                if each.is_dir():
                    with contextlib.suppress(OSError):
                        each.rmdir()
            with contextlib.suppress(OSError):
                group.rmdir()
            time.sleep(0.05)


def _wait_until_booted(made: Debian) -> None:
    deadline = time.monotonic() + WAIT_S
    said = ""
    while time.monotonic() < deadline:
        said = made.run("/bin/sh", "-c", "systemctl is-system-running 2>&1 || true", status=None)
        if said.strip() in {"running", "degraded"}:
            return
        time.sleep(0.2)
    raise AssertionError(f"it does not boot: {said}")
