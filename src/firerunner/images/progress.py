"""How long-running image work tells its caller where it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called from the event loop, often; must return at once."""

    def __call__(self, step: str, message: str, fraction: float | None = None) -> None:
        """`fraction` is the share of the whole work that is done, 0 to 1; None means unchanged."""
        ...


def silent(step: str, message: str, fraction: float | None = None) -> None:
    """A `Progress` that says nothing."""
