"""Tells an application whether a request's body is here already: then it needs no time-out to read it."""

from __future__ import annotations

from starlette.types import Scope

EXTENSION = "firerunner.whole"
"""In the scope's `extensions` (ASGI lets a server have its own): `has_come`, which takes no arguments."""


def has_come(scope: Scope) -> bool:
    """Whether the next `receive` gives, without waiting, all of the body that has not been received yet."""
    ours = scope.get("extensions", {}).get(EXTENSION)
    return ours is not None and bool(ours["has_come"]())
