"""The driver protocol: the five verbs by which FireRunner makes and unmakes machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from firerunner.machines.spec import Egress, ImageFiles, MachineSpec, Resources, Sighting, Started


class Driver(Protocol):
    """Makes machines on one kind of host. Knows nothing of GitLab.

    `create` and `destroy` are idempotent by machine id: after a crash the caller may repeat either.
    No call waits for the guest: that it has booted is seen at the gate.
    """

    name: str
    look_every_s: float
    """How often `list` may show something new: as quick as an end is seen, and what asking costs."""

    async def create(self, spec: MachineSpec) -> Started:
        """Start the machine and return, once its VMM runs, how it came to.

        Raises `NoRoom`, `HostUnusable` or `BootFailed`; then nothing of the machine is left.
        """
        ...

    async def destroy(self, machine_id: str) -> None:
        """End the machine and remove all that belongs to it. An unknown id is a success."""
        ...

    async def list(self) -> Sequence[Sighting]:
        """Everything on the host that carries our mark: that is how leaks are found."""
        ...

    async def console(self, machine_id: str, max_bytes: int = 65536) -> bytes:
        """The last bytes of the machine's serial console; empty if there is none."""
        ...

    async def capacity(self) -> Resources:
        """What the host has in all, before any machine."""
        ...

    def refusal(
        self, resources: Resources, egress: tuple[Egress, ...], image: ImageFiles | None = None
    ) -> str | None:
        """Why no machine of this size and egress, and of this image if it is known, could ever be made here,
        and what to do; None if it can."""
        ...

    def guest_gate_url(self, machine_id: str) -> str:
        """The gate as the guest of this machine reaches it, without a slash at the end."""
        ...

    def hosts_entries(self, egress: tuple[Egress, ...]) -> Sequence[tuple[str, str]]:
        """(name, address) for each destination that `egress` names, for the guest's hosts file."""
        ...

    async def aclose(self) -> None:
        """Give back what the driver itself holds. Machines go on running."""
        ...
