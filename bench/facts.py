"""The machine that the figures were taken on: without it they mean nothing elsewhere."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.errors import ImageError
from firerunner.images import Image, Store
from firerunner.images.runner_binary import ENVIRONMENT_VARIABLE
from firerunner.machines.qemu import QemuDriver

HERE = Path(__file__).parent


async def machine_facts() -> dict[str, Any]:
    """All of it as JSON. How guests run is found out with the demo's image, if there is one."""
    accelerator, why = await _accelerator(_image())
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "accelerator": accelerator,
        "accelerator_reason": why,
        "qemu": _first_line("qemu-system-x86_64", "--version"),
        "python": platform.python_version(),
        "runner_in_image": "gitlab-runner" if os.environ.get(ENVIRONMENT_VARIABLE) else "stand-in",
    }


def cpu_model(cpuinfo: str) -> str:
    """The first processor's name in /proc/cpuinfo; empty if it gives none."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def commit() -> str:
    """The commit that is checked out, with a `+` if files differ from it; empty outside of git."""
    found = _first_line("git", "-C", str(HERE), "rev-parse", "--short=12", "HEAD")
    changed = _first_line("git", "-C", str(HERE), "status", "--porcelain", "--untracked-files=no")
    return f"{found}+" if changed else found


def _image() -> Image | None:
    try:
        return Store(cache_dir() / "images").resolve(demo_recipe(None).name)
    except ImageError:
        return None


async def accelerator_of(image: Image) -> str:
    """`kvm` or `tcg`: the one that FireRunner itself takes here."""
    return (await _accelerator(image))[0]


async def _accelerator(image: Image | None) -> tuple[str, str]:
    """What the driver takes here, and why."""
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as directory:
        driver = QemuDriver(Path(directory))
        try:
            found = await driver.accelerator(image.files if image else None)
        finally:
            await driver.aclose()
    return (found.kind, found.reason) if found else ("tcg", "not tried")


def _first_line(*command: str) -> str:
    """What a program says first; empty if it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return next(iter(done.stdout.splitlines()), "").strip()
