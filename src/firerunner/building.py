"""A whole image from a recipe: find the runner, build, boot it once and record what it declares."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from firerunner.errors import HostUnusable
from firerunner.images import (
    Image,
    Progress,
    Recipe,
    RunnerWish,
    Store,
    build_image,
    find_runner,
    stored_image,
)
from firerunner.images.progress import silent
from firerunner.images.runner_binary import ANY_RUNNER, ENVIRONMENT_VARIABLE
from firerunner.machines.qemu.driver import QemuDriver
from firerunner.machines.spec import ImageFiles


async def build(
    recipe: Recipe,
    store: Store,
    runner_binary: Path | None = None,
    *,
    wish: RunnerWish = ANY_RUNNER,
    progress: Progress = silent,
    again: bool = False,
) -> Image:
    """The image of this recipe, ready to be asked for; an unchanged one is taken from the store.

    Raises ImageError, or MachineError if no machine can be made here to record the runner's `info`.
    """
    named = runner_binary is not None or bool(os.environ.get(ENVIRONMENT_VARIABLE))
    if not named and not again:  # nothing could be different but what GitLab's release address would give
        stored = stored_image(recipe, store, version=wish.version)
        if stored is not None and wish.sha256 in {None, stored.manifest.runner.sha256}:
            return stored
    with tempfile.TemporaryDirectory(prefix="firerunner-build-") as directory:
        work, state_dir = Path(directory), Path(directory, "state")
        work.chmod(0o711)
        state_dir.mkdir(mode=0o711)
        runner = await find_runner(
            work,
            os.environ,
            given=runner_binary,
            wish=wish,
            stand_in=not recipe.production,
            progress=progress,
        )
        driver = QemuDriver(state_dir)
        try:
            for problem in await driver.check():
                raise HostUnusable(problem.what, remedy=problem.remedy)

            async def accelerator(files: ImageFiles) -> str:
                found = await driver.accelerator(files)
                return found.kind if found else "unknown"

            return await build_image(
                recipe,
                store,
                runner,
                driver=driver,
                progress=progress,
                again=again,
                accelerator=accelerator,
            )
        finally:
            await driver.aclose()
