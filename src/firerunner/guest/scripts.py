"""The guest's scripts as package data, ready for the image builder."""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files


class GuestScript(StrEnum):
    """File name of each script in `firerunner/guest/files`."""

    INIT = "init.sh"  # first stage, /init of the initramfs
    BOOT_SOURCE = "boot-source.sh"  # sourced by the first stage: where boot parameters come from
    DHCP = "dhcp.sh"  # called by udhcpc in the running system
    PID1 = "pid1.sh"  # second stage, process 1 of the running system
    STAND_IN = "gitlab-runner.sh"  # the stand-in runner, only in images that say so

    def read(self) -> bytes:
        """The script's text. It is read from the installed package."""
        return files("firerunner.guest").joinpath("files", self.value).read_bytes()
