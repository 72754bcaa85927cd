"""An image is built from Debian's packages, booted once, and kept; an interrupted build leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firerunner.errors import DigestMismatch
from firerunner.images import Image, Recipe, RunnerKind, Store, build_image, stand_in_runner
from firerunner.machines.qemu import QemuDriver

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

RECIPE = Recipe("e2e")


class Steps:
    """Remembers progress; `reached` is set when a message holds the awaited text."""

    def __init__(self, awaited: str = "") -> None:
        self.seen: list[tuple[str, str]] = []
        self.fractions: list[float] = []
        self.awaited = awaited
        self.reached = asyncio.Event()

    def __call__(self, step: str, message: str, fraction: float | None = None) -> None:
        self.seen.append((step, message))
        if fraction is not None:
            self.fractions.append(fraction)
        if self.awaited and self.awaited in message:
            self.reached.set()


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[QemuDriver]:
    driver = QemuDriver(tmp_path / "state", accelerator="tcg")
    yield driver
    for sighting in await driver.list():
        await driver.destroy(sighting.machine_id)
    await driver.aclose()


async def build(store: Store, work: Path, driver: QemuDriver | None, steps: Steps) -> Image:
    work.mkdir(exist_ok=True)
    return await build_image(RECIPE, store, await stand_in_runner(work), driver=driver, progress=steps)


def commands_naming(path: Path) -> list[str]:
    """The command lines of all processes that name a path."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if str(path) in line]


async def test_an_image_is_built_booted_recorded_and_kept(tmp_path: Path, driver: QemuDriver) -> None:
    store = Store(tmp_path / "images")
    first, second = Steps(), Steps()

    image = await build(store, tmp_path / "work", driver, first)
    again = await build(store, tmp_path / "work", driver, second)

    assert image.manifest.runner.kind is RunnerKind.STAND_IN
    assert image.manifest.info is not None
    assert image.manifest.info["version"] == image.manifest.runner.version
    assert image.manifest.info["features"]["cancel_gracefully"] is True
    assert image.files.kernel.read_bytes()[:4] == b"\x7fELF"
    assert again == image
    assert [step for step, _ in second.seen] == ["done"]
    assert list(dict(first.seen)) == [
        *("packages", "kernel", "initramfs", "root", "digest", "record", "done")
    ]
    assert first.fractions == sorted(first.fractions)
    assert [manifest.digest for manifest in store.manifests()] == [image.manifest.digest]
    assert await driver.list() == []

    with image.files.root.open("r+b") as root:
        root.seek(1 << 20)
        root.write(b"changed")
    with pytest.raises(DigestMismatch, match="/root is not what"):
        store.resolve("e2e")


@pytest.mark.parametrize("moment", ["fetching linux-image", "extracting archives"])
async def test_an_interrupted_build_leaves_nothing(tmp_path: Path, moment: str) -> None:
    steps = Steps(moment)
    task = asyncio.create_task(build(Store(tmp_path / "images"), tmp_path / "work", None, steps))
    await steps.reached.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [path.name for path in (tmp_path / "images").iterdir()] == [".lock"]
    assert commands_naming(tmp_path / "images") == []
