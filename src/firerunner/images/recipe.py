"""What an image is made from, in the form that the builder works with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from firerunner.guest.scripts import GuestScript
from firerunner.images.manifest import RunnerKind

BUILDER_REVISION: Final = 4
"""Raised when the builder makes something different of the same recipe."""

BASE_PACKAGES: Final = ("bash", "ca-certificates", "curl", "git", "git-lfs", "iproute2")
STAND_IN_PACKAGES: Final = ("jq", "unzip", "zip")
DOCKER_PACKAGES: Final = ("docker.io", "iptables", "kmod", "xz-utils", "zstd")
CLOUD_INIT_PACKAGES: Final = ("cloud-init", "dbus", "kmod", "systemd-sysv", "udev")


@dataclass(frozen=True, slots=True)
class RunnerSource:
    """The gitlab-runner to put into the image, already fetched and checked."""

    kind: RunnerKind
    path: Path
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """One file of the operator's for the root file system."""

    source: Path
    destination: str
    """Absolute path in the guest."""
    mode: str
    """Octal, as for chmod."""
    sha256: str
    owner: str = "root"
    """As for chown."""
    unpack: str = ""
    """`xz` or `zstd`: lie unpacked in the guest, under the same name."""


@dataclass(frozen=True, slots=True)
class AptSource:
    """A package repository beside Debian's."""

    uri: str
    suite: str
    components: tuple[str, ...]
    key: Path
    """Public key, in either form of OpenPGP."""
    sha256: str
    """Of the key."""

    def line(self, keyring: str) -> str:
        """As in sources.list(5)."""
        options = f"[arch=amd64 signed-by={keyring}]"
        return " ".join(("deb", options, self.uri, self.suite, *self.components))


@dataclass(frozen=True, slots=True)
class Recipe:
    """Declares an image. The runner is given apart, because finding it needs the network."""

    name: str
    suite: str = "bookworm"
    """Debian release of the root file system and of the kernel."""
    kernel_package: str = "linux-image-cloud-amd64"
    packages: tuple[str, ...] = field(default=())
    """Debian packages beyond what every image has."""
    files: tuple[ExtraFile, ...] = field(default=())
    commands: tuple[str, ...] = field(default=())
    """Shell commands that are run in the root file system when all else is in place."""
    apt: tuple[AptSource, ...] = field(default=())
    environment: tuple[tuple[str, str], ...] = field(default=())
    """For gitlab-runner and all that it starts in the machine itself."""
    docker: bool = False
    """Put a Docker engine in, and all kernel modules."""
    cloud_init: bool = False
    """Boot with systemd and cloud-init instead of our own process 1."""
    production: bool = False
    """Refuse the stand-in runner."""
    runner_key: str = ""
    """SHA-256 of the key with which the runner's release had to be signed."""

    def all_packages(self, runner: RunnerSource) -> tuple[str, ...]:
        """What the root file system installs, sorted."""
        extra = [
            *(STAND_IN_PACKAGES if runner.kind is RunnerKind.STAND_IN else ()),
            *(DOCKER_PACKAGES if self.docker else ()),
            *(CLOUD_INIT_PACKAGES if self.cloud_init else ()),
        ]
        return tuple(sorted({*BASE_PACKAGES, *extra, *self.packages}))

    @property
    def wants_modules(self) -> bool:
        """True if the kernel's modules go into the root file system, which then belongs to one kernel."""
        return self.docker or self.cloud_init

    def root_digest(self, runner: RunnerSource, kernel_version: str = "") -> str:
        """Covers all that the root file depends on; the kernel's version where its modules go in."""
        return _digest(
            [
                BUILDER_REVISION,
                self.suite,
                self.all_packages(runner),
                [[each.destination, each.mode, each.owner, each.sha256] for each in self.files],
                self.commands,
                [[each.uri, each.suite, each.components, each.sha256] for each in self.apt],
                self.environment,
                [self.docker, self.cloud_init],
                kernel_version if self.wants_modules else "",
                runner.sha256,
            ]
        )

    def digest(self, runner: RunnerSource) -> str:
        """Covers all that the image depends on, the guest's scripts too."""
        scripts = {script.value: hashlib.sha256(script.read()).hexdigest() for script in GuestScript}
        own = [self.name, self.kernel_package, self.production, self.runner_key]
        return _digest([own, self.root_digest(runner), scripts])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
