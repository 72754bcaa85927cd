"""A machine's serial console on disk, bounded: the guest writes as much as it likes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path

CURRENT, OLDER = "console.log", "console.old"

HALF_BYTES = 512 * 1024
"""When the current file is this long, it becomes the older one, and the one before is dropped."""


SAID = re.compile(rb"firerunner: [0-9.]+ (.+?)\r?")
CANNOT_BOOT = b"cannot boot: "
MAX_LINE_BYTES = 200


class ConsoleLog:
    """Keeps the last 512 KiB to 1 MiB of what is written."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._fd = self._open()
        self._written = 0

    def write(self, data: bytes) -> None:
        """Append, and turn the page when the current file is full. A full disk loses the data."""
        try:
            os.write(self._fd, data)
        except OSError:
            return
        self._written += len(data)
        if self._written >= HALF_BYTES:
            with contextlib.suppress(OSError):  # then it goes on in the older one, and tries again
                self._turn()

    def close(self) -> None:
        os.close(self._fd)

    def _turn(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._directory / CURRENT).replace(self._directory / OLDER)
        fresh = self._open()
        os.close(self._fd)
        self._fd, self._written = fresh, 0

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._directory / CURRENT, flags, 0o600)


class Spotter:
    """Notices words that the guest's own boot stages say, each at most once."""

    def __init__(self, *words: bytes) -> None:
        self._events = {word: asyncio.Event() for word in words}
        self._line = b""
        self.complaint = ""
        """Why the guest could not boot, in its own words."""

    def seen(self, word: bytes) -> asyncio.Event:
        """Set once the word was said."""
        return self._events[word]

    def look(self, data: bytes) -> None:
        """Take the next bytes of the console. Nothing is looked for after the last word, the job's time."""
        if all(event.is_set() for event in self._events.values()):
            return
        *lines, self._line = (self._line + data).split(b"\n")
        self._line = self._line[-MAX_LINE_BYTES:]
        for line in lines:
            said = SAID.fullmatch(line)
            if said is None:
                continue
            if said[1] in self._events:
                self._events[said[1]].set()
            elif said[1].startswith(CANNOT_BOOT):
                self.complaint = said[1].decode("ascii", "replace")


def read_tail(directory: Path, max_bytes: int) -> bytes:
    """The last bytes of the console; empty if there is none."""
    tail = b""
    for name in (CURRENT, OLDER):
        wanted = max_bytes - len(tail)
        if wanted <= 0:
            break
        try:
            with (directory / name).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - wanted))
                tail = file.read(wanted) + tail
        except OSError:
            continue
    return tail
