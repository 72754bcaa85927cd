"""A log file that is put aside when it is full, compressed, and removed when it is old or one too many."""

from __future__ import annotations

import gzip
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firerunner.errors import FireRunnerError
from firerunner.telemetry import LogFile
from firerunner.telemetry.rotating import DAY_S, RotatingFile, put_aside, tidy

LINE = "x" * 99
"""With its end, 100 bytes."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log" / "firerunner.log"


def wanted(path: Path, keep_files: int = 10, keep_days: float = 1.0, *, compress: bool = False) -> LogFile:
    return LogFile(path, 250, keep_files, keep_days * DAY_S, compress)


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("test", logging.INFO, "", 0, text, None, None)


@pytest.fixture
def written(path: Path) -> Iterator[Callable[..., Path]]:
    """Writes so many lines of 100 bytes to a file that takes two."""

    def write(count: int, log: LogFile | None = None) -> Path:
        file = RotatingFile(log or wanted(path))
        for number in range(count):
            file.emit(record(f"{number}{LINE[1:]}"))
        file.close()
        return path

    yield write


def test_no_line_is_lost_or_torn_when_it_is_put_aside(written: Callable[..., Path]) -> None:
    path = written(7)

    parts = [*reversed(put_aside(path)), path]
    assert [part.stat().st_size for part in parts] == [200, 200, 200, 100]
    lines = "".join(part.read_text() for part in parts).splitlines()
    assert lines == [f"{number}{LINE[1:]}" for number in range(7)]
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_goes_on_where_the_last_process_has_ended(written: Callable[..., Path]) -> None:
    written(1)
    path = written(2)

    assert [part.stat().st_size for part in (*put_aside(path), path)] == [200, 100]


def test_a_line_longer_than_the_file_may_be_is_written_as_a_whole(
    written: Callable[..., Path], path: Path
) -> None:
    file = RotatingFile(wanted(path))
    file.emit(record("y" * 1000))
    file.emit(record("z"))
    file.close()

    assert [part.read_text() for part in (*put_aside(path), path)] == ["y" * 1000 + "\n", "z\n"]


def test_what_was_put_aside_is_compressed_and_can_be_read(written: Callable[..., Path], path: Path) -> None:
    written(3, wanted(path, compress=True))

    (aside,) = put_aside(path)
    assert aside.suffix == ".gz"
    assert len(gzip.decompress(aside.read_bytes()).splitlines()) == 2
    assert aside.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, aside.name]


def test_too_many_and_too_old_ones_are_removed_and_nothing_else(written: Callable[..., Path]) -> None:
    path = written(9)
    other = path.with_name("firerunner.log.by-hand")
    other.touch()
    newest, second, third, oldest = put_aside(path)
    os.utime(second, (0, 0))

    tidy(wanted(path, keep_files=3), now=newest.stat().st_mtime)

    assert put_aside(path) == [newest, third]
    assert other.exists()
    assert not oldest.exists()


def test_a_copy_that_was_broken_off_is_begun_anew(written: Callable[..., Path]) -> None:
    path = written(3)
    (aside,) = put_aside(path)
    aside.with_name(f"{aside.name}.gz.part").write_bytes(b"half")

    tidy(wanted(path, compress=True), now=aside.stat().st_mtime)

    (packed,) = put_aside(path)
    assert gzip.decompress(packed.read_bytes()).startswith(b"0x")
    assert sorted(each.name for each in path.parent.iterdir()) == [path.name, packed.name]


def test_a_full_disk_costs_no_line_and_is_told_once(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = RotatingFile(wanted(path))
    file._file.close()
    with Path("/dev/full").open("wb", buffering=0) as full:
        file._file = full
        file.emit(record("one"))
        file.emit(record("two"))
    file.close()

    told = capsys.readouterr().err.splitlines()
    assert told == [f"the log file {path} takes no lines: No space left on device", "one", "two"]


def test_a_file_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(FireRunnerError, match=r"cannot be written: .*Set `log.file` to one that"):
        RotatingFile(wanted(tmp_path))
