"""The initramfs archive is what the kernel reads, and always the same bytes."""

from __future__ import annotations

import stat

from hypothesis import given
from hypothesis import strategies as st

from firerunner.images.cpio import Entry, archive
from firerunner.images.initramfs import initramfs

HEADER_BYTES = 110

names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=30)
entries = st.builds(Entry.file, names, st.binary(max_size=100), st.sampled_from([0o644, 0o755])) | st.builds(
    Entry.directory, names
)


def members(data: bytes) -> list[Entry]:
    """What a reader of the newc form finds (Linux buffer-format.rst)."""
    found, offset = [], 0
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * i : offset + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[offset + HEADER_BYTES : offset + HEADER_BYTES + name_size - 1].decode()
        start = -(-(offset + HEADER_BYTES + name_size) // 4) * 4
        if name == "TRAILER!!!":
            assert len(data) == start
            return found
        found.append(Entry(name, mode, data[start : start + size]))
        offset = -(-(start + size) // 4) * 4


@given(st.lists(entries, max_size=8))
def test_a_reader_finds_what_was_written(written: list[Entry]) -> None:
    assert members(archive(written)) == written


def test_the_initramfs_is_the_same_whatever_the_order_of_its_modules() -> None:
    one = initramfs(b"busybox", {"virtio": b"v", "overlay": b"o"})
    other = initramfs(b"busybox", {"overlay": b"o", "virtio": b"v"})

    assert one == other


def test_the_initramfs_holds_an_init_that_can_be_run_and_every_directory_before_its_content() -> None:
    found = members(initramfs(b"busybox", {"overlay": b"o"}))
    by_name = {entry.path: entry for entry in found}
    order = [entry.path for entry in found]

    assert by_name["init"].mode == stat.S_IFREG | 0o755
    assert by_name["bin/sh"] == Entry.symlink("bin/sh", "busybox")
    assert order.index("modules") < order.index("modules/overlay.ko")
