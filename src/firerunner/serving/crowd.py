"""Who is connected to one listening socket, and who has to go when it is full.

A client who has said all it has to say is being served and stays. The others wait, for their handshake or for
the rest of a request's head: of these the one that has waited longest goes. So a crowd of slow clients
pushes out its own, and an honest one, whose request comes with its connection, gets through.
"""

from __future__ import annotations

from typing import Protocol


class Visitor(Protocol):
    """One connection."""

    def drop(self) -> None:
        """End the connection now. It has left the crowd already."""


class Crowd:
    """The connections of one listening socket, at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: dict[Visitor, None] = {}
        self._served: set[Visitor] = set()

    def __len__(self) -> int:
        return len(self._waiting) + len(self._served)

    def enter(self, visitor: Visitor) -> bool:
        """Let it wait inside; False if all others are being served and there is no room."""
        if len(self) >= self._most:
            longest = next(iter(self._waiting), None)
            if longest is None:
                return False
            self.leave(longest)
            longest.drop()
        self._waiting[visitor] = None
        return True

    def serve(self, visitor: Visitor) -> None:
        """Its request is being worked on from now on."""
        if visitor in self._waiting:
            del self._waiting[visitor]
            self._served.add(visitor)

    def wait(self, visitor: Visitor) -> None:
        """It has its answer, and waits from now on."""
        if visitor in self._served:
            self._served.remove(visitor)
            self._waiting[visitor] = None

    def leave(self, visitor: Visitor) -> None:
        """It is gone."""
        self._waiting.pop(visitor, None)
        self._served.discard(visitor)

    def everybody(self) -> list[Visitor]:
        """All who are inside."""
        return [*self._waiting, *self._served]
