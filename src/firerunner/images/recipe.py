"""What an image is made from, as the operator declares it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from firerunner.guest.scripts import GuestScript
from firerunner.images.manifest import RunnerKind

BUILDER_REVISION: Final = 2
"""Raised when the builder makes something different of the same recipe."""

BASE_PACKAGES: Final = ("bash", "ca-certificates", "curl", "git", "git-lfs", "iproute2")
STAND_IN_PACKAGES: Final = ("jq", "unzip", "zip")


@dataclass(frozen=True, slots=True)
class RunnerSource:
    """The gitlab-runner to put into the image, already fetched and checked."""

    kind: RunnerKind
    path: Path
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """Declares an image. The runner is given apart, because finding it needs the network."""

    name: str
    suite: str = "bookworm"
    """Debian release of the root file system and of the kernel."""
    kernel_package: str = "linux-image-cloud-amd64"
    packages: tuple[str, ...] = field(default=())
    """Debian packages beyond what every image has."""
    production: bool = False
    """Refuse the stand-in runner."""

    def all_packages(self, runner: RunnerSource) -> tuple[str, ...]:
        """What the root file system installs, sorted."""
        stand_in = STAND_IN_PACKAGES if runner.kind is RunnerKind.STAND_IN else ()
        return tuple(sorted({*BASE_PACKAGES, *stand_in, *self.packages}))

    def root_digest(self, runner: RunnerSource) -> str:
        """Covers all that the root file depends on."""
        return _digest([BUILDER_REVISION, self.suite, self.all_packages(runner), runner.sha256])

    def digest(self, runner: RunnerSource) -> str:
        """Covers all that the image depends on, the guest's scripts too."""
        scripts = {script.value: hashlib.sha256(script.read()).hexdigest() for script in GuestScript}
        return _digest([asdict(self), self.root_digest(runner), scripts])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
