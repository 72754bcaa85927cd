"""Writes cpio archives ("newc" form) for the kernel, byte for byte reproducible.

Reproducible means: entries in the order given, owner root, times zero, inode numbers counted from 1.
Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass

_ALIGNMENT = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, directory or symbolic link. `mode` holds type and permissions as in `st_mode`."""

    path: str
    mode: int
    content: bytes = b""

    @classmethod
    def directory(cls, path: str, permissions: int = 0o755) -> Entry:
        """An empty directory."""
        return cls(path, stat.S_IFDIR | permissions)

    @classmethod
    def file(cls, path: str, content: bytes, permissions: int = 0o644) -> Entry:
        """A regular file."""
        return cls(path, stat.S_IFREG | permissions, content)

    @classmethod
    def symlink(cls, path: str, target: str) -> Entry:
        """A symbolic link."""
        return cls(path, stat.S_IFLNK | 0o777, target.encode())


def archive(entries: Iterable[Entry]) -> bytes:
    """The archive of the entries. A directory must come before what it holds."""
    members = [_member(number, entry) for number, entry in enumerate(entries, start=1)]
    return b"".join([*members, _member(0, Entry("TRAILER!!!", 0))])


def _member(inode: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    owner, group, mtime, major_minor, check = 0, 0, 0, (0, 0, 0, 0), 0
    numbers = (inode, entry.mode, owner, group, links, mtime, len(entry.content), *major_minor)
    header = b"070701" + b"".join(b"%08X" % number for number in (*numbers, len(name), check))
    return _padded(header + name) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
