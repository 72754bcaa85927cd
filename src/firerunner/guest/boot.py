"""The three boot parameters: all that a machine knows before it speaks to the gate.

They travel as plain `key=value` lines, by a channel of the driver's choice (fw_cfg for qemu), and are
read by `boot_parameters` in `files/boot-source.sh`. The gate's address names the machine in its path,
because gitlab-runner appends `/api/v4/` to the URL that it is given (gitlab-runner network/client.go).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from firerunner.errors import MachineError
from firerunner.machines.spec import MACHINE_ID

FW_CFG_NAME = "opt/org.firerunner/boot"
"""Name of the fw_cfg file that holds the lines, for drivers whose VMM offers fw_cfg."""

_CREDENTIAL = re.compile(r"[A-Za-z0-9_-]{1,100}")
_GATE_URL = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+/m/(?P<machine_id>[a-z0-9-]+)")


@dataclass(frozen=True, slots=True)
class BootParameters:
    """Checked when made: every value is free of spaces, quotes and line ends.

    Raises `MachineError` naming the parameter that is not of the right shape; never shows the credential.
    """

    machine_id: str
    gate_url: str
    """As the guest sees it, with `/m/MACHINE_ID` at its end."""
    credential: str = field(repr=False)

    def __post_init__(self) -> None:
        if not MACHINE_ID.fullmatch(self.machine_id):
            raise MachineError(
                f"boot parameter machine_id is {self.machine_id!r}, not fr- and 12 of a-z and 0-9"
            )
        match = _GATE_URL.fullmatch(self.gate_url)
        if match is None or match["machine_id"] != self.machine_id:
            raise MachineError(
                f"boot parameter gate_url is {self.gate_url!r}, not http(s)://HOST[:PORT]/m/{self.machine_id}"
            )
        if not _CREDENTIAL.fullmatch(self.credential):
            raise MachineError("boot parameter credential is not 1 to 100 URL-safe characters")

    def format(self) -> str:
        """The lines that the guest reads."""
        return f"machine_id={self.machine_id}\ngate_url={self.gate_url}\ncredential={self.credential}\n"

    @classmethod
    def parse(cls, text: str) -> BootParameters:
        """Read the lines again. Raises `MachineError` for a missing, unknown or repeated key."""
        values: dict[str, str] = {}
        for line in text.removesuffix("\n").split("\n"):
            key, equals, value = line.partition("=")
            if not equals or key not in _KEYS or key in values:
                raise MachineError(f"boot parameters hold an unknown or repeated key {key!r}")
            values[key] = value
        missing = [key for key in _KEYS if key not in values]
        if missing:
            raise MachineError(f"boot parameters lack {', '.join(missing)}")
        return cls(**values)


_KEYS = ("machine_id", "gate_url", "credential")
