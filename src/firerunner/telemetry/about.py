"""Which machine the work in hand is about, for calls that do not name it themselves."""

from __future__ import annotations

from contextvars import ContextVar

MACHINE: ContextVar[str] = ContextVar("machine", default="")
"""Set by an actor, which is a task of its own; empty where nobody has said."""
