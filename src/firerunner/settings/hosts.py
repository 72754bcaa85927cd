"""Settings: where machines run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from firerunner.settings.values import Section


class HostSettings(Section):
    """One host. What is not given is found out by the driver."""

    name: str = "local"
    driver: Literal["qemu"] = "qemu"

    vcpu: int | None = Field(default=None, ge=1)
    """vCPUs to give out. None: twice the computer's cores."""

    memory_mib: int | None = Field(default=None, ge=128)
    """Memory to give out in MiB. None: four fifths of what the computer has."""

    disk_mib: int | None = Field(default=None, ge=64)
    """Disk to give out in MiB. None: four fifths of what is free in the state directory."""
