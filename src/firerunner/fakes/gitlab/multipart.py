"""Reads a multipart form as it streams in, keeping one file part on disk and the small fields in memory.

The fake must never hold an artifact in memory, and must notice a body that was cut off.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

FIELD_LIMIT_BYTES = 64 * 1024
_NAME = re.compile(rb'\bname="([^"]*)"')
_FILENAME = re.compile(rb'\bfilename="([^"]*)"')


class BadForm(ValueError):
    """The body is not the multipart form that its header promises, or ended early."""


class TooLarge(ValueError):
    """The file part is larger than allowed."""


@dataclass(slots=True)
class Form:
    """What the form held."""

    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    size: int = 0


async def receive(chunks: AsyncIterator[bytes], content_type: str, target: Path, limit_bytes: int) -> Form:
    """Write the part named `file` to `target`. Raises `BadForm` or `TooLarge`."""
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if not content_type.startswith("multipart/form-data") or not found:
        raise BadForm("not multipart/form-data")
    parser = _Parser(b"--" + found[1].encode(), target, limit_bytes)
    try:
        async for chunk in chunks:
            parser.feed(chunk)
    finally:
        parser.close()
    if not parser.ended:
        raise BadForm("the form ended before its last boundary")
    return parser.form


class _Parser:
    """A state machine over a buffer that never grows beyond one chunk and a boundary."""

    def __init__(self, delimiter: bytes, target: Path, limit_bytes: int) -> None:
        self.form = Form()
        self.ended = False
        self._delimiter = b"\r\n" + delimiter
        self._buffer = b"\r\n"
        self._target = target
        self._limit = limit_bytes
        self._name: str | None = None
        self._file: BinaryIO | None = None
        self._field = b""
        self._in_head = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self._buffer += chunk
        while not self.ended and self._step():
            pass

    def close(self) -> None:
        """Close the file, whatever happened."""
        if self._file:
            self._file.close()
            self._file = None

    def _step(self) -> bool:
        return self._head() if self._in_head else self._content()

    def _content(self) -> bool:
        at = self._buffer.find(self._delimiter)
        if at < 0:
            keep = len(self._delimiter) - 1
            self._take(self._buffer[:-keep])
            self._buffer = self._buffer[-keep:]
            return False
        after = at + len(self._delimiter)
        if len(self._buffer) < after + 2:
            return False
        self._take(self._buffer[:at])
        self._finish_part()
        if self._buffer[after : after + 2] == b"--":
            self.ended = True
            return False
        self._buffer = self._buffer[after:]
        self._in_head = True
        return True

    def _head(self) -> bool:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return False
        name = _NAME.search(head)
        filename = _FILENAME.search(head)
        self._name = name[1].decode(errors="replace") if name else None
        if self._name == "file" and filename:
            self.form.filename = Path(filename[1].decode(errors="replace")).name
            self._file = self._target.open("wb")
        self._buffer = rest
        self._in_head = False
        return True

    def _take(self, data: bytes) -> None:
        if self._file:
            self.form.size += len(data)
            if self.form.size > self._limit:
                raise TooLarge
            self._file.write(data)
        elif self._name is not None:
            self._field += data
            if len(self._field) > FIELD_LIMIT_BYTES:
                raise BadForm(f"field {self._name} is too long")

    def _finish_part(self) -> None:
        if self._file:
            self.close()
        elif self._name is not None:
            self.form.fields[self._name] = self._field.decode(errors="replace")
        self._name, self._field = None, b""
