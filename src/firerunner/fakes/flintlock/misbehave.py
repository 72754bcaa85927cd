"""How the fake is told to misbehave: hang, refuse, lose replies, be slow."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import grpc


@dataclass(slots=True)
class Misbehaviour:
    """One way in which calls go wrong, for the next `times` calls of that kind."""

    call: str
    """`CreateMicroVM` and so on; empty: each."""
    times: int = 1
    hang: bool = False
    """Never answer; nothing is done."""
    lose_reply: bool = False
    """Do what is asked for, and break the connection instead of answering."""
    code: grpc.StatusCode | None = None
    """Refuse with this code and `text`."""
    text: str = ""
    used: int = 0
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let what hangs go on, into a broken connection."""
        self.released.set()

    def applies(self, call: str) -> bool:
        """Whether this call is to go wrong; counts it."""
        if self.used >= self.times or self.call not in ("", call):
            return False
        self.used += 1
        return True
