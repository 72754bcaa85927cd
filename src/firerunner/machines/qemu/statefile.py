"""The state file of a machine: what its keeper tells the driver, also after both have ended."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

STATE_FILE = "state.json"

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Phase:
    """How far a machine has come. Written by the keeper only."""

    STARTING = "starting"
    """The keeper runs, QEMU has not shown yet that it does."""
    RUNNING = "running"
    """QEMU has answered on its control socket."""
    ENDED = "ended"
    """QEMU ran and has ended; `detail` says why."""
    FAILED = "failed"
    """QEMU never ran; `detail` says why."""


def write(directory: Path, state: dict[str, Any]) -> None:
    """Replace the state file; a reader sees the old or the new one, never a part."""
    fresh = directory / f"{STATE_FILE}.new"
    fresh.write_text(json.dumps(state))
    fresh.replace(directory / STATE_FILE)


def read(directory: Path) -> dict[str, Any] | None:
    """The state, or None if the keeper has not come to writing one."""
    try:
        state = json.loads((directory / STATE_FILE).read_text())
    except (OSError, ValueError):
        return None
    return state if isinstance(state, dict) else None


def boot_id() -> str:
    """Names this boot of the computer: process ids of another boot mean nothing."""
    return BOOT_ID.read_text().strip()


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot: with its id, it names a process for good."""
    try:
        text = Path("/proc", str(pid), "stat").read_text()
    except OSError:
        return None
    return int(text[text.rindex(")") + 2 :].split()[19])


def own_process(pid: int | None = None) -> dict[str, int | None]:
    """A process as it is named in the state file."""
    number = os.getpid() if pid is None else pid
    return {"pid": number, "start": start_ticks(number)}
