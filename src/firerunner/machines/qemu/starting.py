"""Starting a keeper, and giving it its order: the moment at which a machine comes to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from firerunner.errors import BootFailed, HostUnusable
from firerunner.machines.qemu import order, processes
from firerunner.machines.qemu.checks import CHECK_REMEDY, find_program
from firerunner.machines.qemu.order import Saved

START_TIMEOUT_S = 90.0
"""Longer than a keeper itself waits for anything (`watch`)."""


def program(name: str) -> str:
    """Its path. Raises `HostUnusable`."""
    path = find_program(name)
    if path is None:
        raise HostUnusable(f"{name} is not installed", remedy=CHECK_REMEDY)
    return path


def start_keeper(directory: Path, saved: Saved | None) -> subprocess.Popen[bytes]:
    """A keeper that waits for its order. It has the descriptors of `saved` under the same numbers."""
    return subprocess.Popen(
        processes.keeper_command(sys.executable, directory),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={"PATH": os.defpath, "LANG": "C.UTF-8"},
        start_new_session=True,
        pass_fds=() if saved is None else (saved.memory, saved.devices),
    )


def give_order(keeper: subprocess.Popen[bytes], ordered: order.Order) -> None:
    """Returns when the machine runs. Raises `BootFailed` or `HostUnusable`."""
    try:
        out, err = keeper.communicate(order.to_json(ordered).encode(), START_TIMEOUT_S)
        answer: dict[str, Any] = json.loads(out)
    except subprocess.TimeoutExpired as error:
        raise BootFailed(
            f"the keeper of {ordered.machine_id} did not report within {START_TIMEOUT_S:.0f} s",
            remedy="Is the computer overloaded? Lower the host's capacity.",
        ) from error
    except ValueError as error:
        complaint = err.decode("utf-8", "replace").strip()[-2000:]
        raise HostUnusable(f"the keeper could not start: {complaint}", remedy=CHECK_REMEDY) from error
    failed = answer.get("failed")
    if failed and answer.get("host"):
        raise HostUnusable(f"{ordered.machine_id} could not be started: {failed}", remedy=CHECK_REMEDY)
    if failed:
        raise BootFailed(
            f"{ordered.machine_id}: {failed}",
            remedy=f"QEMU's last words: {answer.get('stderr') or 'none'}",
        )
