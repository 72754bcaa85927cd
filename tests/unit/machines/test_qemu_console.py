"""The bounded console log, and the state file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from firerunner.machines.qemu import statefile
from firerunner.machines.qemu.console import HALF_BYTES, ConsoleLog, Spotter, read_tail


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


def test_where_no_file_can_be_made_the_console_goes_on_in_the_one_it_has(tmp_path: Path) -> None:
    place = tmp_path / "machine"
    place.mkdir()
    log = ConsoleLog(place)
    shutil.rmtree(place)

    log.write(bytes(HALF_BYTES))
    reader, writer = os.pipe()  # the numbers that were free
    log.write(b"of the guest")

    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 100)
    place.mkdir()
    log.write(b"of the guest")
    log.write(b"kept")
    log.close()
    assert read_tail(place, 100) == b"kept"
    os.close(reader)
    os.close(writer)


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


def test_words_of_the_boot_stages_are_noticed_however_they_arrive() -> None:
    spotter = Spotter(b"template", b"restored")

    for piece in (b"[ 0.1] PCI: x\r\nfirerunner: 1.0", b"5 templ", b"ate\r\nfirerunner: 2.00 restored"):
        spotter.look(piece)

    assert spotter.seen(b"template").is_set()
    assert not spotter.seen(b"restored").is_set()  # its line has not ended


def test_a_word_inside_another_line_is_not_taken_for_it() -> None:
    spotter = Spotter(b"restored")

    spotter.look(b"firerunner: 1.05 restored?\r\nrestored\r\nx firerunner: 1.05 restored\r\n")

    assert not spotter.seen(b"restored").is_set()


def test_why_a_guest_cannot_boot_is_kept() -> None:
    spotter = Spotter(b"template")

    spotter.look(b"firerunner: 1.05 cannot boot: an image with cloud-init is not saved\r\n")

    assert spotter.complaint == "cannot boot: an image with cloud-init is not saved"
