"""What API and dashboard need of the rest of the service, handed in so that they know nothing of control."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from firerunner.gate.looking import Seen
from firerunner.ledger import JobRecord, Ledger, MachineRecord
from firerunner.web.models import Host, Pool


@dataclass(frozen=True, slots=True)
class Fleet:
    """All that is there at one moment."""

    hosts: list[Host]
    """In the order of the configuration."""
    pools: list[Pool]
    machines: list[MachineRecord]
    """Live ones, oldest first."""
    jobs: list[JobRecord]
    """Open ones, oldest first."""
    leads: bool
    """Whether this controller leads; another does not know which pools ask, nor the room of hosts."""


@dataclass(frozen=True, slots=True)
class Operations:
    """Each may raise FireRunnerError."""

    ledger: Ledger
    host_names: Callable[[], Collection[str]]
    hosts: Callable[[], Awaitable[list[Host]]]
    pools: Callable[[], Awaitable[list[Pool]]]
    fleet: Callable[[], Awaitable[Fleet]]
    console: Callable[[MachineRecord, int], Awaitable[bytes]]
    """So many of the last bytes on the machine's console; empty if its host gives none."""
    destroy: Callable[[str, str], Awaitable[None]]
    """Gives up the machine of that id, for that reason."""
    cancel: Callable[[JobRecord], Awaitable[None]]
    """Cancels the job in its GitLab."""
    look: Callable[[str, str], Awaitable[Seen | None]]
    """Runs a script on the held machine of that id; None if nothing comes back."""
