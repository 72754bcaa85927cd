"""Disks apart from their machines: found by name, and refused before the file system is full."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.errors import HostUnusable
from firerunner.machines.qemu import QemuDriver
from firerunner.machines.qemu.disks import Disks, copy_sparse

pytestmark = pytest.mark.anyio

MACHINE = "fr-0123456789ab"


def test_disks_are_with_their_machines_unless_the_operator_says(tmp_path: Path) -> None:
    with_them = Disks(tmp_path / "machines", None, "tag", 0)
    apart = Disks(tmp_path / "machines", tmp_path / "fast", "tag", 0)

    assert with_them.path(MACHINE).is_relative_to(tmp_path / "machines" / MACHINE)
    assert apart.path(MACHINE).is_relative_to(tmp_path / "fast")


def test_two_state_directories_share_a_place_and_not_a_disk(tmp_path: Path) -> None:
    ours, theirs = (Disks(tmp_path / tag, tmp_path / "fast", tag, 0) for tag in ("ours", "theirs"))
    ours.prepare()
    ours.path(MACHINE).touch()

    assert ours.machine_ids() == {MACHINE}
    assert theirs.machine_ids() == set()


def test_what_is_no_machines_disk_is_left_alone(tmp_path: Path) -> None:
    disks = Disks(tmp_path / "machines", tmp_path / "fast", "tag", 0)
    disks.prepare()
    disks.path("precious").touch()

    assert disks.machine_ids() == set()


PLACES = st.dictionaries(st.integers(0, 40), st.binary(min_size=1, max_size=3 * 4096), max_size=4)


@given(places=PLACES, rest=st.integers(0, 5000))
def test_a_copied_disk_holds_the_same_and_takes_no_more_room(places: dict[int, bytes], rest: int) -> None:
    source, target = (os.memfd_create(name) for name in ("source", "target"))
    try:
        for page, content in places.items():
            os.pwrite(source, content, page * 4096)
        os.ftruncate(source, os.fstat(source).st_size + rest)

        copy_sparse(source, target)

        size = os.fstat(source).st_size
        assert os.pread(target, size + 1, 0) == os.pread(source, size + 1, 0)
        assert os.fstat(target).st_size == size
        assert os.fstat(target).st_blocks <= os.fstat(source).st_blocks
    finally:
        os.close(source)
        os.close(target)


def test_a_disk_that_cannot_be_made_says_where_and_what_to_do(tmp_path: Path) -> None:
    disks, content = Disks(tmp_path / "machines", tmp_path / "gone", "tag", 0), os.memfd_create("content")
    try:
        with pytest.raises(HostUnusable, match=r"gone.*No such file"):
            disks.copy(MACHINE, content)
    finally:
        os.close(content)


async def test_a_disk_without_a_machine_is_a_leak_that_destroy_removes(tmp_path: Path) -> None:
    driver = QemuDriver(tmp_path / "state", disk_dir=tmp_path / "fast")
    try:
        directory = next(iter(_made(driver, tmp_path)))
        assert [sighting.machine_id for sighting in await driver.list()] == [MACHINE]
        await driver.destroy(MACHINE)
        assert await driver.list() == []
        assert list(directory.iterdir()) == []
    finally:
        await driver.aclose()


def _made(driver: QemuDriver, tmp_path: Path) -> list[Path]:
    disks = driver._machines._disks
    disks.prepare()
    disks.path(MACHINE).touch()
    return [disks.path(MACHINE).parent]


async def test_a_host_that_is_nearly_full_takes_no_machine(tmp_path: Path) -> None:
    driver = QemuDriver(tmp_path, keep_free_mib=1 << 40)
    try:
        with pytest.raises(HostUnusable, match="MiB are to be kept free"):
            await driver.capacity()
    finally:
        await driver.aclose()


async def test_what_the_computer_refuses_is_a_hosts_fault(tmp_path: Path) -> None:
    driver = QemuDriver(tmp_path)
    (tmp_path / "machines").touch()
    try:
        with pytest.raises(HostUnusable, match=r"Not a directory: .*machines"):
            await driver.list()
        with pytest.raises(HostUnusable, match=r"Not a directory: .*machines"):
            await driver.destroy(MACHINE)
    finally:
        await driver.aclose()


def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(HostUnusable, match="cannot be made"):
        Disks(tmp_path / "machines", tmp_path / "file", "tag", 0).prepare()
