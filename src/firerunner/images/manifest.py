"""What an image says about itself: the manifest beside its files."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from firerunner.errors import ImageError

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ImageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


SCHEMA_VERSION: Final = 2
"""Of the manifests that this FireRunner reads and writes."""


class ImageFile(StrEnum):
    """The files of an image, by their names in the store."""

    KERNEL = "kernel"  # the ELF vmlinux, booted directly (PVH)
    INITRAMFS = "initramfs"  # cpio: busybox, kernel modules, the guest's two boot stages
    ROOT = "root"  # read-only ext4, shared by all machines of the image


class RunnerKind(StrEnum):
    """Where the image's gitlab-runner comes from."""

    OFFICIAL = "official"  # GitLab's own binary
    STAND_IN = "stand-in"  # our short shell script: for demos and tests, never for production


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileFacts(_Part):
    """Digest and size (bytes) of one file."""

    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


class RunnerFacts(_Part):
    """The gitlab-runner in the image."""

    kind: RunnerKind
    version: str
    sha256: Sha256


class BootFacts(_Part):
    """One boot of the image, on the computer that built it."""

    seconds: Annotated[float, Field(ge=0)]
    """From the driver's `create` to the guest's first word at the gate."""
    accelerator: str
    """What ran the guest: `kvm` or `tcg` (emulation)."""


class Manifest(_Part):
    """Everything that is known of an image. `digest` names it, and covers all other fields."""

    schema_version: Literal[2] = 2
    name: ImageName
    architecture: Literal["amd64"] = "amd64"
    kernel_version: str
    files: dict[ImageFile, FileFacts]
    runner: RunnerFacts
    production: bool
    """True if the image is fit for production. Never with the stand-in."""
    docker: bool = False
    """True if a Docker engine is in it, for the runner's `docker` executor."""
    cloud_init: bool = False
    """True if systemd and cloud-init start it, not our own process 1."""
    boot: BootFacts | None = None
    """How long its recording boot took. None until then."""
    docker_info: dict[str, Any] | None = None
    """As `info`, of a runner that works with Docker. None without a Docker engine."""
    info: dict[str, Any] | None = None
    """What the runner in the image declares in its asks (features, version, executor), recorded from
    its first ask. Without it no pool may ask with this image, because GitLab fails a job whose
    required features the ask lacks (Rails pre_assign_runner_checks)."""
    recipe_digest: Sha256
    """An unchanged recipe is not built again."""
    root_digest: Sha256
    """The part of the recipe that the root file depends on: it is reused if only the rest changed."""
    built_at: datetime
    digest: str = ""

    @property
    def mib(self) -> int:
        """What its files take, in MiB."""
        return sum(facts.size for facts in self.files.values()) >> 20

    def info_for(self, executor: str) -> dict[str, Any] | None:
        """What a runner with that executor declares; None if it was not recorded."""
        return self.docker_info if executor == "docker" else self.info

    @property
    def is_recorded(self) -> bool:
        """True if all that its runner can be used for was recorded."""
        return self.info is not None and (not self.docker or self.docker_info is not None)

    def sealed(self) -> Manifest:
        """The same manifest with its digest filled in."""
        return self.model_copy(update={"digest": self.content_digest()})

    def content_digest(self) -> str:
        """SHA-256 of the canonical JSON of all fields but `digest`, in hex."""
        content = self.model_dump(mode="json", exclude={"digest"})
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(content: bytes, where: str) -> Manifest:
    """The manifest in `content`, its digest not yet checked; `where` names it in errors.

    Raises `ImageError` for what is no manifest, or one of another version.
    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        version = _version(content)
        if version is not None and version != SCHEMA_VERSION:
            raise ImageError(
                f"{where} is a manifest of version {version}, this FireRunner reads version {SCHEMA_VERSION}",
                remedy="Build the image again; `firerunner image prune` removes the old one",
            ) from error
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ImageError(
            f"{where} is not a manifest: {place}: {first['msg']}", remedy="Build it again"
        ) from error


def _version(content: bytes) -> int | None:
    try:
        found = json.loads(content)["schema_version"]
    except (ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, int) else None
