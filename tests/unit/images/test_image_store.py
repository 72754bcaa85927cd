"""The store gives back whole, checked images, and keeps nothing of what failed."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from image_given import fill, manifest_of, stored

from firerunner.errors import DigestMismatch, ImageError, ImageMissing
from firerunner.images import ImageFile, Store
from firerunner.images import store as store_module

pytestmark = pytest.mark.anyio


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state" / "images"


@pytest.fixture
def store(directory: Path) -> Store:
    return Store(directory)


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are read to be checked."""
    read: list[str] = []
    real = store_module.file_facts

    def counted(path: Path) -> object:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(store_module, "file_facts", counted)
    return read


async def test_an_image_is_found_by_name_digest_and_the_digests_start(store: Store) -> None:
    image = await stored(store)
    digest = image.manifest.digest

    assert store.resolve("demo") == store.resolve(digest) == store.resolve(digest[:8]) == image
    assert image.files.digest == digest
    assert image.files.kernel.read_text() == "kernel content"


async def test_a_name_moves_to_the_newer_image(store: Store) -> None:
    old = await stored(store, content="old")
    new = await stored(store, content="new")

    assert store.names() == {"demo": new.manifest.digest}
    assert store.resolve(old.manifest.digest) == old
    assert {manifest.digest for manifest in store.manifests()} == {old.manifest.digest, new.manifest.digest}


@pytest.mark.parametrize("reference", ["nothing", "0" * 64, "abcdef12", "../demo", ""])
async def test_what_is_not_there_is_said_with_what_is(store: Store, reference: str) -> None:
    await stored(store)

    with pytest.raises(ImageMissing, match=r"demo.*firerunner image build"):
        store.resolve(reference)


def test_an_empty_store_is_no_error(store: Store) -> None:
    assert store.manifests() == []
    assert store.names() == {}
    with pytest.raises(ImageMissing):
        store.inspect("demo")


@pytest.mark.parametrize("part", ImageFile)
async def test_a_changed_file_is_named(store: Store, part: ImageFile) -> None:
    image = await stored(store)
    path = image.files.kernel.parent / part
    path.write_text(path.read_text().upper())

    with pytest.raises(DigestMismatch, match=f"/{part} is not what its manifest says"):
        store.resolve("demo")


async def test_a_missing_file_is_named(store: Store) -> None:
    image = await stored(store)
    image.files.root.unlink()

    with pytest.raises(DigestMismatch, match="/root is missing"):
        store.resolve("demo")


async def test_a_changed_manifest_is_refused(store: Store) -> None:
    image = await stored(store)
    path = image.files.kernel.with_name("manifest.json")
    path.write_text(path.read_text().replace('"production": false', '"production": true'))

    with pytest.raises(DigestMismatch, match=r"manifest\.json"):
        store.inspect("demo")


async def test_a_broken_manifest_names_the_field(store: Store) -> None:
    image = await stored(store)
    path = image.files.kernel.with_name("manifest.json")
    path.write_text(path.read_text().replace('"kernel_version"', '"kernel"'))

    with pytest.raises(ImageError, match="kernel_version"):
        store.inspect("demo")


async def test_files_are_read_once_also_by_a_later_process(
    store: Store, directory: Path, read_files: list[str]
) -> None:
    await stored(store)
    read_files.clear()

    store.resolve("demo")
    Store(directory).resolve("demo")

    assert read_files == []


async def test_a_file_with_the_same_size_and_time_but_new_content_is_read(
    store: Store, read_files: list[str]
) -> None:
    image = await stored(store)
    before = image.files.root.stat()
    image.files.root.write_text("ROOT content")
    os.utime(image.files.root, ns=(before.st_atime_ns, before.st_mtime_ns))
    read_files.clear()

    with pytest.raises(DigestMismatch):
        store.resolve("demo")

    assert read_files == ["root"]


async def test_files_can_be_read_and_not_written_by_others(store: Store) -> None:
    image = await stored(store)
    paths = [image.files.kernel, image.files.initramfs, image.files.root]

    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o644}
    assert stat.S_IMODE(image.files.kernel.parent.stat().st_mode) == 0o755


async def fail_in_stage(store: Store) -> None:
    async with store.stage() as stage:
        fill(stage / "image")
        raise ImageError("the build broke")


async def be_cancelled_in_stage(store: Store) -> None:
    async with store.stage() as stage:
        fill(stage / "image")
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)


@pytest.mark.parametrize("breakage", [fail_in_stage, be_cancelled_in_stage])
async def test_nothing_is_left_of_what_did_not_end(
    store: Store, directory: Path, breakage: Callable[[Store], object]
) -> None:
    with pytest.raises((ImageError, asyncio.CancelledError)):
        await asyncio.create_task(breakage(store))  # type: ignore[arg-type]

    assert [path.name for path in directory.iterdir()] == [".lock"]


async def test_what_a_killed_build_left_is_swept_by_the_next(store: Store, directory: Path) -> None:
    (directory / ".build-killed" / "work").mkdir(parents=True)

    await stored(store)

    assert not (directory / ".build-killed").exists()


async def test_a_second_build_waits_and_says_so(store: Store, directory: Path) -> None:
    said = asyncio.Event()
    order: list[str] = []

    async def second() -> None:
        async with Store(directory).stage(lambda *_: said.set()):
            order.append("second")

    async with store.stage():
        task = asyncio.create_task(second())
        await said.wait()
        order.append("first")
    await task

    assert order == ["first", "second"]


async def test_prune_keeps_what_is_named_or_in_use(store: Store) -> None:
    used = await stored(store, content="used")
    unused = await stored(store, content="unused")
    current = await stored(store, content="current")

    pruned = await store.prune(in_use={used.manifest.digest})

    assert pruned == [unused.manifest.digest]
    assert store.resolve(used.manifest.digest) == used
    assert store.resolve("demo") == current


async def test_a_forgotten_image_can_be_pruned(store: Store) -> None:
    await stored(store)

    await store.forget("demo")
    await store.prune()

    assert store.manifests() == []


async def test_recorded_info_makes_a_new_digest_and_removes_the_image_without(store: Store) -> None:
    bare = await stored(store)

    async with store.stage() as stage:
        recorded = store.with_facts(stage, bare, {"info": {"features": {"cancelable": True}}})

    assert recorded.manifest.digest != bare.manifest.digest
    assert recorded.manifest.info == {"features": {"cancelable": True}}
    assert store.manifests() == [recorded.manifest]
    assert store.resolve("demo") == recorded


async def test_the_same_content_may_be_committed_again(store: Store) -> None:
    first = await stored(store)
    again = await stored(store)

    assert again.manifest == first.manifest


async def test_files_that_are_there_already_stay_because_machines_use_them(store: Store) -> None:
    first = await stored(store)
    inode = first.files.root.stat().st_ino

    again = await stored(store)
    assert again.files.root.stat().st_ino == inode

    first.files.root.write_text("damaged")
    mended = await stored(store)
    assert mended.files.root.read_text() != "damaged"


async def test_the_name_points_to_the_finished_image_only(store: Store) -> None:
    async with store.stage() as stage:
        fill(stage / "image")
        bare = store.commit(stage / "image", manifest_of(stage / "image"), named=False)
    assert store.names() == {}

    async with store.stage() as stage:
        recorded = store.with_facts(stage, bare, {"info": {"features": {}}})
    assert store.names() == {"demo": recorded.manifest.digest}


async def test_a_manifest_of_another_version_says_so(store: Store, directory: Path) -> None:
    digest = "0" * 64
    (directory / digest).mkdir(parents=True)
    (directory / digest / "manifest.json").write_text('{"schema_version": 1}')

    with pytest.raises(ImageError, match="of version 1, this FireRunner reads version 2") as raised:
        store.inspect(digest)

    assert "Build the image again" in raised.value.remedy


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ImageError, match="cannot be written"):
        await stored(Store(tmp_path / "file" / "images"))


async def test_a_manifest_that_is_not_that_of_its_files_is_not_stored(store: Store) -> None:
    with pytest.raises(DigestMismatch, match="kernel"):
        async with store.stage() as stage:
            fill(stage / "image")
            manifest = manifest_of(stage / "image")
            (stage / "image" / "kernel").write_text("changed meanwhile")
            store.commit(stage / "image", manifest)

    assert store.manifests() == []
    assert store.names() == {}


async def test_a_file_that_is_changed_between_two_launches_is_noticed(store: Store) -> None:
    image = await stored(store)
    kernel = image.files.kernel
    before = kernel.stat()
    assert store.resolve("demo") == image

    kernel.write_text(kernel.read_text().replace("kernel", "KERNEL"))
    os.utime(kernel, ns=(before.st_atime_ns, before.st_mtime_ns))  # size and time as they were

    for _ in range(2):
        with pytest.raises(DigestMismatch, match="kernel"):
            store.resolve("demo")


async def test_what_is_wrong_is_not_read_again_before_it_changes(store: Store, read_files: list[str]) -> None:
    image = await stored(store)
    good = image.files.kernel.read_bytes()
    image.files.kernel.write_bytes(b"x" * len(good))
    with pytest.raises(DigestMismatch):
        store.resolve("demo")
    read_files.clear()

    with pytest.raises(DigestMismatch):
        store.resolve("demo")
    assert read_files == []

    image.files.kernel.write_bytes(good)
    assert store.resolve("demo").files == image.files


async def test_at_a_start_every_file_is_read_whatever_was_noted(
    store: Store, directory: Path, read_files: list[str]
) -> None:
    image = await stored(store)
    read_files.clear()
    fresh = Store(directory)

    assert fresh.verify("demo") == fresh.verify(image.manifest.digest) == image

    assert sorted(read_files) == sorted(image.manifest.files)


async def test_a_note_that_says_a_changed_file_was_checked_is_not_believed_at_a_start(
    store: Store, directory: Path
) -> None:
    image = await stored(store)
    image.files.kernel.write_bytes(b"another")
    status = image.files.kernel.stat()
    note = directory / image.manifest.digest / "verified.json"
    said = json.loads(note.read_text())
    said["kernel"] = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    note.write_text(json.dumps(said))
    fresh = Store(directory)

    for look in (fresh.verify, fresh.resolve):
        with pytest.raises(DigestMismatch, match="kernel"):
            look("demo")
