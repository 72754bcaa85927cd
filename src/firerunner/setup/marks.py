"""How a runner that set-up has made is found again without its token: a mark in its maintenance note.

The mark names this computer, the pool and the token's file. So a set-up that was killed between GitLab's
answer and the file finds its runner, and one on another computer does not take it for its own.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

_MACHINE_ID = Path("/etc/machine-id")


def description_of(pool: str) -> str:
    """What the pool's runner is called in GitLab."""
    return f"firerunner {pool}"


def mark_of(pool: str, token_file: Path) -> str:
    """The mark of the runner whose token belongs into that file here."""
    try:
        machine = _MACHINE_ID.read_text(encoding="ascii").strip()
    except OSError:
        machine = ""
    said = "\0".join((machine, platform.node(), str(token_file.absolute()), pool))
    return f"firerunner-setup:{hashlib.sha256(said.encode()).hexdigest()[:16]}"


def note_of(pool: str, token_file: Path) -> str:
    """The maintenance note, for people and with the mark."""
    made = f"Made by `firerunner gitlab setup` on {platform.node()} for its pool {pool}."
    return f"{made} {mark_of(pool, token_file)}"
