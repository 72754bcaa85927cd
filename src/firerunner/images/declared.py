"""Turns a declaration into a recipe: every file that it names is read once, for its checksum."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

from firerunner.errors import ImageError
from firerunner.images.declaration import Declaration
from firerunner.images.recipe import AptSource, ExtraFile, Recipe

_PREBUILT: Final = re.compile(r"prebuilt-[\w.-]+\.(?P<kind>tar\.xz|docker\.tar\.zst)")
_UNPACK: Final = {"tar.xz": "xz", "docker.tar.zst": "zstd"}
_SAVED: Final = "prebuilt-alpine-x86_64.docker.tar.zst"
"""What a gitlab-runner gives to `docker load` first, which looks at the content and not at the name."""
HELPER_IMAGES_DIRECTORY: Final = "/usr/local/lib/gitlab-runner/helper-images"
"""Where a gitlab-runner in /usr/local/bin looks for them (executors/docker/internal/prebuilt)."""


def recipe_of(declared: Declaration) -> Recipe:
    """The recipe, with every file read once for its checksum. Raises `ImageError`."""
    files = [
        ExtraFile(
            each.source.absolute(), each.destination, each.mode, _digest_of(each.source, "a file"), each.owner
        )
        for each in declared.files
    ]
    if declared.docker is not None and declared.docker.helper_image is not None:
        files.append(_helper_image(declared.docker.helper_image))
    destinations = [each.destination for each in files]
    twice = {each for each in destinations if destinations.count(each) > 1}
    if twice:
        raise ImageError(f"two files are to become {min(twice)}", remedy="Keep one of them")
    if declared.docker is not None and declared.cloud_init:
        raise ImageError("docker and cloud_init are both given", remedy="Keep one of them")
    return Recipe(
        name=declared.name,
        suite=declared.suite,
        kernel_package=declared.kernel_package,
        packages=declared.packages,
        files=tuple(files),
        commands=declared.run,
        apt=tuple(
            AptSource(
                each.uri,
                each.suite,
                each.components,
                each.key.absolute(),
                _digest_of(each.key, f"the key of {each.uri}"),
            )
            for each in declared.apt
        ),
        environment=tuple(sorted(declared.environment.items())),
        docker=declared.docker is not None,
        cloud_init=declared.cloud_init,
        production=declared.production,
        runner_key="" if declared.runner.key is None else _digest_of(declared.runner.key, "the runner's key"),
    )


def _helper_image(path: Path) -> ExtraFile:
    """It lies unpacked in the guest, because every machine would unpack it again, for one job.

    A gitlab-runner gives `prebuilt-….docker.tar.zst` to `docker load`, and `prebuilt-….tar.xz` to `docker
    import` (executors/docker/internal/prebuilt); Docker finds out by itself what is packed how.
    """
    prebuilt = _PREBUILT.fullmatch(path.name)
    if prebuilt is None and path.suffix != ".tar":
        raise ImageError(
            f"the helper image {path} is neither of GitLab's package nor of `docker save`",
            remedy="It is called prebuilt-alpine-x86_64.tar.xz, or ends with .tar",
        )
    name, unpack = (path.name, _UNPACK[prebuilt["kind"]]) if prebuilt else (_SAVED, "")
    destination = f"{HELPER_IMAGES_DIRECTORY}/{name}"
    return ExtraFile(
        path.absolute(), destination, "0644", _digest_of(path, "the helper image"), unpack=unpack
    )


def _digest_of(path: Path, what: str) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(
            f"{path}, {what}, cannot be read: {error.strerror}",
            remedy="Paths in image.yaml count from its directory",
        ) from error
