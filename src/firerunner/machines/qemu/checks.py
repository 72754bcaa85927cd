"""What is missing on this computer for the driver to work, each with what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from firerunner.machines.problems import Problem
from firerunner.machines.qemu.namespace import TUN_DEVICE

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""Programs for administrators are not on an ordinary user's PATH."""


CHECK_REMEDY = "Run: firerunner doctor"

CHILD_ENVIRONMENT = {"PATH": SEARCH_PATH, "LANG": "C.UTF-8"}
"""All that a program which we start gets: our own environment may hold secrets of the configuration."""


def find_program(name: str) -> str | None:
    """The program's path, also where only an administrator's PATH would find it."""
    return shutil.which(name, path=SEARCH_PATH)


def find_problems(qemu: str, state_dir: Path) -> list[Problem]:
    """Everything that is missing; empty if machines can be made. Takes a few hundredths of a second."""
    problems = []
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        problems.append(
            Problem(
                f"this is {platform.system()} on {platform.machine()}",
                "The qemu driver needs Linux on x86_64.",
            )
        )
    for program, package in ((qemu, "qemu-system-x86"), ("mkfs.ext4", "e2fsprogs"), ("timeout", "coreutils")):
        if find_program(program) is None:
            problems.append(Problem(f"{program} is not installed", f"Run: apt-get install {package}"))
    if not _writable(state_dir):
        problems.append(
            Problem(f"{state_dir} cannot be written to", "Give it to the user who runs firerunner.")
        )
    if not Path(TUN_DEVICE).exists():
        problems.append(
            Problem(
                f"{TUN_DEVICE} is missing", "Run: modprobe tun. In a container, pass --device /dev/net/tun."
            )
        )
    elif not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        problems.append(
            Problem(
                f"{TUN_DEVICE} may not be opened by this user",
                f"Run: chmod 0666 {TUN_DEVICE} (usual on Debian).",
            )
        )
    else:
        problems.extend(_try_network())
    return problems


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)


def _try_network() -> list[Problem]:
    """Make a machine's network in a process of its own, which takes it along when it ends."""
    code = (
        "from firerunner.machines.qemu import namespace\n"
        "namespace.enter()\n"
        "namespace.make_link('10.0.2.2', '10.0.2.15', [])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=CHILD_ENVIRONMENT,
    )
    if done.returncode == 0:
        return []
    complaint = done.stderr.strip().rpartition("\n")[2]
    remedy = (
        "In a container, add --cap-add SYS_ADMIN --cap-add NET_ADMIN."
        if os.geteuid() == 0
        else "Allow user namespaces: sysctl user.max_user_namespaces=16384 and, on Ubuntu, "
        "kernel.apparmor_restrict_unprivileged_userns=0; or run firerunner as root."
    )
    return [Problem(f"a machine's network cannot be made: {complaint}", remedy)]
