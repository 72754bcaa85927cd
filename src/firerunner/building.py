"""A whole image from a recipe: find the runner, build, boot it once and record what it declares."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from firerunner.errors import HostUnusable
from firerunner.images import Image, Progress, Recipe, Store, build_image, find_runner, record_info
from firerunner.images.progress import silent
from firerunner.machines.qemu.driver import QemuDriver


async def build(
    recipe: Recipe,
    store: Store,
    runner_binary: Path | None = None,
    *,
    progress: Progress = silent,
    again: bool = False,
) -> Image:
    """The image of this recipe, ready to be asked for; an unchanged one is taken from the store.

    Raises ImageError, or MachineError if no machine can be made here to record the runner's `info`.
    """
    with tempfile.TemporaryDirectory(prefix="firerunner-build-") as directory:
        work = Path(directory)
        runner = await find_runner(work, os.environ, given=runner_binary, progress=progress)
        image = await build_image(recipe, store, runner, progress=progress, again=again)
        if image.manifest.info is not None:
            return image
        driver = QemuDriver(work / "state")
        try:
            (work / "state").mkdir(mode=0o711)
            work.chmod(0o711)
            for problem in await driver.check():
                raise HostUnusable(problem.what, remedy=problem.remedy)
            return await record_info(image, store, driver, progress=progress)
        finally:
            await driver.aclose()
