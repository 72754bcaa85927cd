"""A computer to install on: this one's programs, with an `/etc`, `/opt`, `/run` and users of a test's own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.world import USER, child_of

ROOT = Path(__file__).parents[2]
UNSHARE = ("unshare", *USER, "--mount", "--pid", "--fork", "--kill-child")

SETUP = """
set -eu
mount --make-rprivate /
mount -t proc proc /proc
mount -t tmpfs scratch /mnt
for directory in /etc /usr/local /var/lib; do
    mkdir -p "/mnt/up$directory" "/mnt/work$directory"
    mount -t overlay overlay "$directory" \\
        -o "lowerdir=$directory,upperdir=/mnt/up$directory,workdir=/mnt/work$directory"
done
rm -rf /var/lib/firerunner /etc/firerunner
mount -t tmpfs -o "$0" opt /opt
mount -t tmpfs -o mode=755 run /run
sed -i /^firerunner:/d /etc/passwd /etc/group /etc/shadow /etc/gshadow
echo ready
sleep infinity
"""

SYSTEMCTL = """#!/bin/bash
echo "$*" >> /run/systemctl.log
case $*/$1 in
    */is-active) [ -e /run/active ] ;;
    *MainPID*/show) cat /run/main-pid 2> /dev/null || echo 0 ;;
    */show) echo 0 ;;
esac
"""
"""Stands in where no systemd runs: what was asked of it, and whether the service is said to be active."""

MAIN = "def main() -> None:\n    print('firerunner {version}')\n"


@dataclass(frozen=True, slots=True)
class Computer:
    """Commands run on it, as its root."""

    pid: int

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, status: int | None = 0
    ) -> subprocess.CompletedProcess[str]:
        """`status`: what it has to end with; None: anything."""
        with self.start(*command, env=env) as process:
            out, err = process.communicate(timeout=120)
        done = subprocess.CompletedProcess(command, process.returncode, out, err)
        assert status in (None, done.returncode), f"{command}: status {done.returncode}\n{out}{err}"
        return done

    def start(
        self, *command: str, env: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        user = ["-U", "--preserve-credentials"] if USER else []
        return subprocess.Popen(
            ["nsenter", "-t", str(self.pid), *user, "-m", "-p", "--", *command],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Files of one that is killed go with the computer.
            env={**os.environ, "TMPDIR": "/run", **(env or {})},
        )

    def says(self, script: str) -> str:
        return self.run("bash", "-euc", script).stdout.strip()

    def everything(self) -> str:
        """All files that an installation could make or change."""
        places = "/etc /opt /run /usr/local /var/lib/firerunner"
        return self.says(f"find {places} -printf '%p %M %u %g %s %l\\n' 2> /dev/null | sort || true")

    def has_program(self, name: str, text: str) -> None:
        """In the place of its own, if it has one."""
        put = 'printf %s "$1" > "/usr/local/sbin/$0" && chmod 755 "/usr/local/sbin/$0"'
        self.run("bash", "-euc", put, name, text)

    def has_systemd(self, *, active: bool = False) -> None:
        """From now on a systemd seems to run."""
        self.says("mkdir -p /run/systemd/system")
        self.has_program("systemctl", SYSTEMCTL)
        if active:
            self.says("touch /run/active")

    def asked_of_systemd(self) -> list[str]:
        return self.says("cat /run/systemctl.log 2> /dev/null || true").splitlines()


@contextlib.contextmanager
def computer(opt: str = "size=2g") -> Iterator[Computer]:
    """`opt`: mount options of the file system of `/opt`."""
    with subprocess.Popen([*UNSHARE, "bash", "-c", SETUP, opt], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            yield Computer(child_of(holder.pid))
        finally:
            holder.kill()


@dataclass(frozen=True, slots=True)
class Release:
    """An unpacked release of a small package of the same name, and its wheel with a SHA256SUMS beside it."""

    tree: Path
    wheel: Path

    @property
    def script(self) -> str:
        return str(self.tree / "install.sh")

    @property
    def by_wheel(self) -> tuple[str, ...]:
        """The command that asks nothing and fetches nothing."""
        return (self.script, "--yes", "--wheel", str(self.wheel))


def release(folder: Path, version: str = "1.2.0", *, locked: str = "") -> Release:
    """`locked`: its run.lock, of which everything would be fetched."""
    tree = folder / f"firerunner-{version}"
    (tree / "src/firerunner/cli").mkdir(parents=True)
    (tree / "requirements").mkdir()
    shutil.copy(ROOT / "install.sh", tree)
    shutil.copytree(ROOT / "deploy/systemd", tree / "deploy/systemd")
    shutil.copy(ROOT / "requirements/build.lock", tree / "requirements")
    (tree / "requirements/run.lock").write_text(locked)
    (tree / "README.md").write_text("small\n")
    for package in ("", "cli/"):
        (tree / f"src/firerunner/{package}__init__.py").write_text("")
    (tree / "src/firerunner/cli/main.py").write_text(MAIN.format(version=version))
    lines = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[0].splitlines()
    start, end = lines.index("dependencies = ["), lines.index("]", lines.index("dependencies = ["))
    kept = [line for line in lines[:start] + lines[end + 1 :] if not line.startswith("version = ")]
    kept.insert(kept.index("[project]") + 1, f'version = "{version}"')
    kept += ["[tool.hatch.build.targets.wheel]", 'packages = ["src/firerunner"]']
    (tree / "pyproject.toml").write_text("\n".join(kept) + "\n")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / f"dist-{version}")]
    subprocess.run(build, cwd=tree, check=True, capture_output=True)
    (wheel,) = (folder / f"dist-{version}").glob("*.whl")
    sums = f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}\n"
    wheel.with_name("SHA256SUMS").write_text(sums)
    return Release(tree, wheel)


def exposures(unit: Path) -> dict[str, float]:
    """What `systemd-analyze security` counts of a unit: item by item, only those that count."""
    command = ["systemd-analyze", "security", "--offline=true", "--json=short", str(unit)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {each["name"]: float(each["exposure"]) for each in found if float(each["exposure"] or 0) > 0}
