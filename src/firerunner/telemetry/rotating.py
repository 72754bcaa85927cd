"""A log file that is put aside when it is full, compressed, and in the end removed.

For who writes to a file instead of systemd's journal. The file that is put aside gets the time of that moment
in its name, so nothing is ever renamed twice and a process that dies in between leaves names that the next
one understands. Compressing and removing are done by a thread: the service does not wait for them.
"""

from __future__ import annotations

import glob
import gzip
import logging
import os
import re
import shutil
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from firerunner.errors import FireRunnerError

MIB = 1024 * 1024
DAY_S = 86_400.0
QUIET_S = 60.0
"""Of a disk that takes no lines is told once in so long."""
_PART = ".part"


@dataclass(frozen=True, slots=True)
class LogFile:
    """Where it is, when it is put aside, and how long what was put aside is kept."""

    path: Path
    max_bytes: int
    keep_files: int
    keep_s: float
    compress: bool


class RotatingFile(logging.Handler):
    """Writes lines to a file of mode 0600, made with its directory if it is not there."""

    def __init__(self, wanted: LogFile) -> None:
        """Raises FireRunnerError if the file cannot be written."""
        super().__init__()
        self._wanted = wanted
        self._path = path = wanted.path
        self._told_at = 0.0
        self._tidying: threading.Thread | None = None
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._file, self._size = self._open()
        except OSError as error:
            raise FireRunnerError(
                f"the log file {path} cannot be written: {error.strerror}",
                remedy="Set `log.file` to one that the service's user may write, or take it out",
            ) from error
        self._tidy()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; if the file cannot take it, standard error gets it."""
        line = f"{self.format(record)}\n"
        try:
            content = line.encode("utf-8", "backslashreplace")
            if self._size and self._size + len(content) > self._wanted.max_bytes:
                self._put_aside()
            self._file.write(content)
            self._size += len(content)
        except OSError as error:
            self._complain(error)
            sys.stderr.write(line)

    def close(self) -> None:
        """Also waits for what is being compressed."""
        super().close()
        self._file.close()
        if self._tidying is not None:
            self._tidying.join()

    def _open(self) -> tuple[IO[bytes], int]:
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return os.fdopen(fd, "ab", buffering=0), os.fstat(fd).st_size

    def _put_aside(self) -> None:
        aside = self._path.with_name(f"{self._path.name}.{_stamp(time.time_ns())}")
        if self._path.exists():  # somebody else may have taken it away
            self._path.rename(aside)
        before = self._file
        self._file, self._size = self._open()
        before.close()
        self._tidy()

    def _tidy(self) -> None:
        before = self._tidying

        def in_turn() -> None:
            if before is not None:
                before.join()
            tidy(self._wanted, time.time())

        self._tidying = threading.Thread(target=in_turn, name="log-rotation")
        self._tidying.start()

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if not self._told_at or now - self._told_at > QUIET_S:
            self._told_at = now
            sys.stderr.write(f"the log file {self._path} takes no lines: {error.strerror}\n")


def tidy(log: LogFile, now: float) -> None:
    """Compress the files that were put aside, and remove those that are too many or too old (`now`: Unix
    seconds)."""
    for part in log.path.parent.glob(f"{glob.escape(log.path.name)}.*{_PART}"):
        part.unlink(missing_ok=True)
    for number, aside in enumerate(put_aside(log.path)):
        with suppress(OSError):
            if number >= log.keep_files or now - aside.stat().st_mtime > log.keep_s:
                aside.unlink()
            elif log.compress and aside.suffix != ".gz":
                _compress(aside)


def put_aside(path: Path) -> list[Path]:
    """Those of this log, the newest first."""
    name = re.compile(re.escape(path.name) + r"\.\d{8}T\d{6}\.\d{9}(\.gz)?")
    return sorted((each for each in path.parent.iterdir() if name.fullmatch(each.name)), reverse=True)


def _compress(aside: Path) -> None:
    """Whole or not at all: a copy that was broken off has another name, and is begun anew."""
    facts, part = aside.stat(), aside.with_name(f"{aside.name}.gz{_PART}")
    with aside.open("rb") as source, part.open("wb") as target:
        part.chmod(0o600)
        with gzip.GzipFile(filename=aside.name, fileobj=target, mode="wb", mtime=facts.st_mtime) as packed:
            shutil.copyfileobj(source, packed, MIB)
    os.utime(part, (facts.st_atime, facts.st_mtime))
    part.replace(aside.with_name(f"{aside.name}.gz"))
    aside.unlink()


def _stamp(now_ns: int) -> str:
    seconds, rest = divmod(now_ns, 1_000_000_000)
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds)) + f".{rest:09d}"
