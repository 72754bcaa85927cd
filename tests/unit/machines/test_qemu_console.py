"""The bounded console log, and the state file."""

from __future__ import annotations

from pathlib import Path

import pytest

from firerunner.machines.qemu import statefile
from firerunner.machines.qemu.console import HALF_BYTES, ConsoleLog, read_tail


def test_the_end_of_an_endless_console_is_kept_and_the_disk_is_not_filled(tmp_path: Path) -> None:
    log = ConsoleLog(tmp_path)
    block = bytes(range(256)) * 256
    blocks = 10 * HALF_BYTES // len(block)
    for number in range(blocks):
        log.write(b"%08d" % number + block)
    log.close()

    kept = sum(path.stat().st_size for path in tmp_path.iterdir())

    assert HALF_BYTES <= kept <= 2 * (HALF_BYTES + len(block) + 8)
    assert read_tail(tmp_path, len(block) + 8) == b"%08d" % (blocks - 1) + block
    assert len(read_tail(tmp_path, 10 * HALF_BYTES)) == kept


@pytest.mark.parametrize("size", [0, 1, 5, 11, 100])
def test_a_tail_is_as_long_as_asked_for_across_both_files(tmp_path: Path, size: int) -> None:
    (tmp_path / "console.old").write_bytes(b"older ")
    (tmp_path / "console.log").write_bytes(b"newer")

    assert read_tail(tmp_path, size) == b"older newer"[max(0, 11 - size) :]


def test_no_console_is_empty(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "nothing", 100) == b""


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    statefile.write(tmp_path, {"phase": "running"})
    statefile.write(tmp_path, {"phase": "ended"})

    assert statefile.read(tmp_path) == {"phase": "ended"}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_state_is_no_state(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)

    assert statefile.read(tmp_path) is None
