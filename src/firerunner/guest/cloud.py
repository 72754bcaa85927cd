"""Files of an image that boots with systemd and cloud-init instead of our own process 1.

The first stage then writes a NoCloud seed (cloud-init docs: datasources/nocloud) with the boot parameters
and the one command that starts the second stage, and hands over to systemd.
"""

from __future__ import annotations

from typing import Final

MARK: Final = "/etc/firerunner/cloud-init"
"""Where the first stage looks whether the image wants cloud-init."""

_SETTINGS: Final = """\
datasource_list: [NoCloud]
network: {config: disabled}
"""


def cloud_init_files() -> dict[str, bytes]:
    """By their place in the root file system."""
    return {
        MARK: b"FireRunner's first stage hands over to systemd, and cloud-init starts the second.\n",
        "/etc/cloud/cloud.cfg.d/90_firerunner.cfg": _SETTINGS.encode(),
    }
