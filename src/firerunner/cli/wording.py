"""How commands write moments, spans of time, and what a guest has printed."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(at: float) -> str:
    """Unix seconds as a date and time in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def span(seconds: float) -> str:
    """How long something has lasted, in its natural unit."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def harmless(text: str) -> str:
    """Whoever runs in a guest prints what it likes; what a terminal obeys is left out."""
    return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")
