"""What every query gets: an open connection, the time, and the epoch of whoever writes."""

from __future__ import annotations

from dataclasses import dataclass, field

from firerunner.ledger.database import Opened
from firerunner.ledger.moves import Move


@dataclass(frozen=True, slots=True)
class Transaction:
    """One database transaction; all that is written in it stands or falls together."""

    connection: Opened
    at: float
    """Unix seconds: the one time of all that happens in it."""
    epoch: int | None = None
    """The epoch of the leader that writes, or None for an observer."""
    moves: list[Move] = field(default_factory=list)
    """What it changes, to be told once it is committed."""
