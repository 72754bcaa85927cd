"""What every query gets: an open connection, the time, and the epoch of whoever writes."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Transaction:
    """One database transaction; all that is written in it stands or falls together."""

    connection: AsyncConnection
    at: float
    """Unix seconds: the one time of all that happens in it."""
    epoch: int | None = None
    """The epoch of the leader that writes, or None for an observer."""
