"""Looks at this computer from outside: processes, namespaces, groups, without the driver's own code."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import anyio

T = TypeVar("T")

PATIENCE_S = 60.0
LOOK_EVERY_S = 0.05


async def eventually(look: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> T:
    """Look again and again until what is seen is as wanted; TimeoutError tells what was seen last."""
    seen = await look()
    with anyio.move_on_after(PATIENCE_S):
        while not wanted(seen):
            await anyio.sleep(LOOK_EVERY_S)
            seen = await look()
    assert wanted(seen), f"still {seen!r} after {PATIENCE_S} s"
    return seen


def processes_naming(text: str) -> dict[int, str]:
    """Living processes with `text` in their command line, but this one."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            command = _read(entry / "cmdline").replace("\0", " ")
            if text in command:
                found[int(entry.name)] = command
    return found


def vmm_of(text: str) -> int:
    """The one QEMU whose command line holds `text`."""
    (pid,) = (pid for pid, command in processes_naming(text).items() if "qemu-system" in command.split()[0])
    return pid


def keeper_of(text: str) -> int:
    """The one keeper whose command line holds `text`."""
    (pid,) = (pid for pid, command in processes_naming(text).items() if "keeper" in command)
    return pid


def network_namespace(pid: int) -> str:
    return str(Path("/proc", str(pid), "ns/net").readlink())


def processes_in(namespace: str) -> list[int]:
    """Processes that are in a network namespace."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str((entry / "ns/net").readlink()) == namespace:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def control_groups(machine_ids: Iterable[str]) -> list[Path]:
    """Control groups with the name of a machine, in any hierarchy."""
    wanted = set(machine_ids)
    return [Path(path) for path, _, _ in os.walk("/sys/fs/cgroup") if Path(path).name in wanted]


def fields(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    pairs = (line.partition(":") for line in _read(Path("/proc", str(pid), "status")).splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
