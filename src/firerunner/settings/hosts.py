"""Settings: where machines run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from firerunner.settings.values import Section


class HostSettings(Section):
    """One host. What is not given is found out by the driver."""

    name: str = "local"
    """What pools, logs and `firerunner machines` call it."""

    driver: Literal["qemu"] = "qemu"
    """What makes the machines: `qemu`, on this computer."""

    vcpu: int | None = Field(default=None, ge=1)
    """vCPUs to give out. None: twice the computer's cores."""

    memory_mib: int | None = Field(default=None, ge=128)
    """Memory to give out in MiB. None: four fifths of what the computer has."""

    disk_mib: int | None = Field(default=None, ge=64)
    """Disk to give out in MiB. None: four fifths of what is free where the disks are."""

    disk_dir: Path | None = None
    """Where the machines' writable disks are. None: with the machines, in the state directory."""

    keep_free_mib: int = Field(default=1024, ge=0)
    """No machine is made while the disks' file system has less than this free, in MiB."""
