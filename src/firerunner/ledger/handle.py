"""What every part of the ledger's face has: a way to read, a way to write, and keys."""

from __future__ import annotations

from firerunner.ledger.access import Access


class Handle:
    """On one database; its writes are fenced by the epoch of its access, if that has one."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._read = access.read
        self._write = access.write
        self._keys = access.keys

    def mark(self, what: bytes) -> str:
        """What tells this from something else, and says nothing about it without the key file."""
        return self._keys.mark(what)
