"""What the API needs of the rest of the service, handed in so that it knows nothing of control."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from firerunner.gate.looking import Seen
from firerunner.ledger import Ledger
from firerunner.web.models import Host, Pool


@dataclass(frozen=True, slots=True)
class Operations:
    """Each may raise FireRunnerError."""

    ledger: Ledger
    host_names: Callable[[], Collection[str]]
    hosts: Callable[[], Awaitable[list[Host]]]
    pools: Callable[[], Awaitable[list[Pool]]]
    destroy: Callable[[str, str], Awaitable[None]]
    """Gives up the machine of that id, for that reason."""
    look: Callable[[str, str], Awaitable[Seen | None]]
    """Runs a script on the held machine of that id; None if nothing comes back."""
