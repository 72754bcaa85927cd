"""What every query gets: an open connection, the time, and the epoch of whoever writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Transaction:
    """One database transaction; all that is written in it stands or falls together."""

    connection: AsyncConnection
    at: float
    """Unix seconds: the one time of all that happens in it."""
    epoch: int | None = None
    """The epoch of the leader that writes, or None for an observer."""
    told: list[dict[str, Any]] = field(default_factory=list)
    """Changes of state, for the log; a line for each is written once they are committed."""

    def tell(self, kind: str, to: str, was: str | None, **facts: Any) -> None:
        """A machine or a job has changed its state. Facts that are not known are left out."""
        known = {name: value for name, value in facts.items() if value not in {None, ""}}
        self.told.append(
            {"event": f"{kind} {to}", "was": was, **known} if was else {"event": f"{kind} {to}", **known}
        )
