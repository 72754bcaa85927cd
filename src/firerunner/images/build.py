"""Builds an image from a recipe: the one verb of this package that takes minutes."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from firerunner.errors import ImageError
from firerunner.guest.cloud import cloud_init_files
from firerunner.guest.environment import environment_files
from firerunner.guest.scripts import GuestScript
from firerunner.images.apt import Apt
from firerunner.images.initramfs import MODULES, initramfs
from firerunner.images.kernel import extract_vmlinux, module_closure
from firerunner.images.manifest import ImageFile, Manifest, RunnerFacts, RunnerKind
from firerunner.images.progress import Progress, silent
from firerunner.images.recipe import Recipe, RunnerSource
from firerunner.images.recording import record_info
from firerunner.images.rootfs import RootRecipe, build_root
from firerunner.images.runner_binary import DEFAULT_VERSION
from firerunner.images.store import Image, Store, file_facts
from firerunner.images.tools import require_tools
from firerunner.machines.driver import Driver
from firerunner.machines.spec import ImageFiles

_FREE_BYTES_NEEDED: Final = 2 << 30


async def build_image(
    recipe: Recipe,
    store: Store,
    runner: RunnerSource,
    *,
    driver: Driver | None = None,
    progress: Progress = silent,
    again: bool = False,
    accelerator: Callable[[ImageFiles], Awaitable[str]] | None = None,
) -> Image:
    """Build the image, or take the one in the store if its recipe is the same (unless `again`); then boot
    it by `driver` once, to record the runner's `info`. Without a driver `info` stays null, and no pool
    can use the image yet.

    Raises `ImageError` or `MachineError`; then, and when cancelled, nothing unfinished is left.
    """
    refuse_unfit(recipe, runner)
    image = None
    with contextlib.suppress(ImageError):  # such as of one that another build is just replacing
        image = None if again else _same_recipe(recipe, store, runner)
    if image is None or (driver is not None and not image.manifest.is_recorded):
        async with store.stage(progress) as stage:
            # Another build may have ended meanwhile. None begins before this image is recorded: `record_info`
            # removes the image without `info`, and nobody else may be about to boot that.
            image = None if again else _same_recipe(recipe, store, runner)
            if image is None:
                require_tools()
                _require_space(stage)
                image = await _Build(recipe, store, runner, stage, progress, named=driver is None).run()
            if driver is not None and not image.manifest.is_recorded:
                runs_by = await accelerator(image.files) if accelerator else "unknown"
                image = await record_info(image, store, stage, driver, progress=progress, accelerator=runs_by)
    store.name(image)
    progress("done", f"image {image.manifest.digest[:12]}", 1.0)
    return image


def stored_image(recipe: Recipe, store: Store, *, version: str = DEFAULT_VERSION) -> Image | None:
    """The finished image of this recipe, if no other runner was to be had than the one it holds.

    For callers to whom no binary was given: it saves them asking GitLab at each start. That holds for the
    release of `version`, and for today's stand-in (building `again` asks GitLab again).
    """
    try:
        manifest = store.inspect(store.names()[recipe.name])
    except (KeyError, ImageError):
        return None
    facts = manifest.runner
    wanted = {
        RunnerKind.OFFICIAL: f"v{facts.version}" == version,
        RunnerKind.STAND_IN: facts.sha256 == hashlib.sha256(GuestScript.STAND_IN.read()).hexdigest(),
    }
    # The path is not part of a recipe's digest, and nothing is built with it.
    runner = RunnerSource(facts.kind, Path("gitlab-runner"), facts.version, facts.sha256)
    if not manifest.is_recorded or not wanted[facts.kind] or manifest.recipe_digest != recipe.digest(runner):
        return None
    refuse_unfit(recipe, runner)
    return store.resolve(manifest.digest)


def refuse_unfit(recipe: Recipe, runner: RunnerSource) -> None:
    """Raise `ImageError` for a production image with the stand-in runner."""
    if recipe.production and runner.kind is RunnerKind.STAND_IN:
        raise ImageError(
            f"image {recipe.name!r} is for production, and there is only the stand-in for gitlab-runner",
            remedy="Give the official binary: --runner-binary PATH or FIRERUNNER_GITLAB_RUNNER",
        )


def _same_recipe(recipe: Recipe, store: Store, runner: RunnerSource) -> Image | None:
    """Also one that was built before and not recorded, and one whose name points elsewhere now."""
    wanted = recipe.digest(runner)
    made = [manifest for manifest in store.manifests() if manifest.recipe_digest == wanted]
    best = next((manifest for manifest in made if manifest.is_recorded), made[0] if made else None)
    return store.resolve(best.digest) if best else None


def _require_space(stage: Path) -> None:
    free = shutil.disk_usage(stage).free
    if free < _FREE_BYTES_NEEDED:
        raise ImageError(
            f"{stage.parent} has {free >> 20} MiB free, a build needs {_FREE_BYTES_NEEDED >> 20} MiB",
            remedy="Free some space, prune images, or use another state directory",
        )


@dataclass(frozen=True, slots=True)
class _Build:
    recipe: Recipe
    store: Store
    runner: RunnerSource
    stage: Path
    progress: Progress
    named: bool

    async def run(self) -> Image:
        files, work = self.stage / "image", self.stage / "work"
        files.mkdir()
        work.mkdir()
        self.progress("packages", "fetching package lists", 0.0)
        apt = await Apt.open(work / "apt", self.recipe.suite)
        kernel_version, modules = await self._kernel_and_initramfs(apt, files)
        await self._root(apt, work, files, modules)
        self.progress("digest", "computing digests", 0.85)
        manifest = await asyncio.to_thread(self._manifest, files, kernel_version)
        return self.store.commit(files, manifest, named=self.named)

    async def _kernel_and_initramfs(self, apt: Apt, files: Path) -> tuple[str, Path]:
        """The kernel's version, and the directory of its modules."""
        self.progress("kernel", f"fetching {self.recipe.kernel_package}", 0.1)
        package = await self._kernel_package(apt)
        version = package.removeprefix("linux-image-")
        tree = await apt.download(package)
        self.progress("kernel", f"unpacking {version}", 0.2)
        await extract_vmlinux(tree / f"boot/vmlinuz-{version}", files / ImageFile.KERNEL)
        self.progress("initramfs", "fetching busybox", 0.25)
        busybox = (await apt.download("busybox-static")) / "bin/busybox"
        directory = tree / "lib/modules" / version
        modules = module_closure(directory, MODULES)
        (files / ImageFile.INITRAMFS).write_bytes(initramfs(busybox.read_bytes(), modules))
        return version, directory

    async def _kernel_package(self, apt: Apt) -> str:
        """The package with the kernel in it: Debian's metapackage depends on the current one."""
        if (self.recipe.kernel_package.removeprefix("linux-image-"))[0].isdigit():
            return self.recipe.kernel_package
        for package in await apt.depends(self.recipe.kernel_package):
            if package.startswith("linux-image-"):
                return package
        raise ImageError(
            f"package {self.recipe.kernel_package} leads to no kernel",
            remedy="See `apt-cache search linux-image`",
        )

    async def _root(self, apt: Apt, work: Path, files: Path, modules: Path) -> None:
        reusable = self._reusable_root(modules.name)
        if reusable is not None:
            self.progress("root", f"taken from image {reusable.parent.name[:12]}, its part is unchanged", 0.8)
            os.link(reusable, files / ImageFile.ROOT)
            return
        self.progress("root", "installing packages", 0.3)
        recipe = RootRecipe(
            self.recipe.suite,
            self.recipe.all_packages(self.runner),
            self.runner.path,
            files=self.recipe.files,
            commands=self.recipe.commands,
            modules=modules if self.recipe.wants_modules else None,
            docker=self.recipe.docker,
            apt=self.recipe.apt,
            guest_files={
                **(cloud_init_files() if self.recipe.cloud_init else {}),
                **environment_files(self.recipe.environment),
            },
        )
        lines = 0

        def on_line(line: str) -> None:
            nonlocal lines
            lines += 1
            self.progress("root", line, min(0.3 + lines * 0.02, 0.8))

        await build_root(recipe, apt, work, files / ImageFile.ROOT, on_line)

    def _reusable_root(self, kernel_version: str) -> Path | None:
        wanted = self.recipe.root_digest(self.runner, kernel_version)
        for manifest in self.store.manifests():
            if manifest.root_digest == wanted:
                return self.store.resolve(manifest.digest).files.root
        return None

    def _manifest(self, files: Path, kernel_version: str) -> Manifest:
        return Manifest(
            name=self.recipe.name,
            kernel_version=kernel_version,
            files={name: file_facts(files / name) for name in ImageFile},
            runner=RunnerFacts(kind=self.runner.kind, version=self.runner.version, sha256=self.runner.sha256),
            production=self.recipe.production,
            recipe_digest=self.recipe.digest(self.runner),
            root_digest=self.recipe.root_digest(self.runner, kernel_version),
            docker=self.recipe.docker,
            cloud_init=self.recipe.cloud_init,
            built_at=datetime.now(UTC).replace(microsecond=0),
        )
