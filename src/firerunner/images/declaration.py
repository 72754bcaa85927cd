"""`image.yaml`: an image as the operator declares it, checked once, turned into a recipe."""

from __future__ import annotations

import difflib
import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from firerunner.errors import ImageError
from firerunner.images.manifest import ImageName, Sha256
from firerunner.images.recipe import ExtraFile, Recipe
from firerunner.images.runner_binary import DEFAULT_VERSION

EXAMPLE: Final = """\
# An image for CI jobs: firerunner image build --file image.yaml
name: default
packages: [build-essential, python3-venv]     # Debian packages
files:
  - source: pip.conf                          # beside this file
    destination: /etc/pip.conf
run:                                          # in the new system, as root, at the end
  - useradd --create-home builder
runner:
  version: v19.4.0                            # fetched from GitLab and checked against its checksums
# docker: {}                                  # a Docker engine, for the runner's docker executor
"""

_FORBIDDEN: Final = ("/dev", "/proc", "/run", "/sys")
_REPLACED_LATER: Final = frozenset({"/etc/hosts", "/etc/hostname", "/etc/machine-id", "/etc/resolv.conf"})
_HELPER_IMAGE: Final = re.compile(r"prebuilt-[\w.-]+\.(tar\.xz|docker\.tar\.zst)")
HELPER_IMAGES_DIRECTORY: Final = "/usr/local/lib/gitlab-runner/helper-images"
"""Where a gitlab-runner in /usr/local/bin looks for them (executors/docker/internal/prebuilt)."""

Package = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9+.-]+(:[a-z0-9]+)?$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FileEntry(_Part):
    """One file to add."""

    source: Path
    """Path of the file, beside image.yaml if it is relative."""

    destination: str
    """Absolute path in the guest."""

    mode: Annotated[str, StringConstraints(pattern=r"^[0-7]{3,4}$")] = "0644"
    """Permissions, octal, in quotes. The owner is root."""

    @field_validator("destination")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        path = PurePosixPath(value)
        if not path.is_absolute() or ".." in path.parts or value.endswith("/") or path == PurePosixPath("/"):
            raise ValueError("expected an absolute path of a file, without ..")
        if value.startswith(tuple(f"{place}/" for place in _FORBIDDEN)) or value in _FORBIDDEN:
            raise ValueError(f"{path.parts[1]} is empty when a guest boots; choose another place")
        if value in _REPLACED_LATER:
            raise ValueError("it is written anew in every guest")
        if value == "/usr/local/bin/gitlab-runner":
            raise ValueError("give the runner by runner.binary")
        return value


class RunnerEntry(_Part):
    """The gitlab-runner."""

    version: Annotated[str, StringConstraints(pattern=r"^v\d+\.\d+\.\d+$")] = DEFAULT_VERSION
    """GitLab's release to fetch, and to check against GitLab's list of checksums."""

    binary: Path | None = None
    """A binary to take instead, beside image.yaml if the path is relative."""

    sha256: Sha256 | None = None
    """If given, the runner's checksum must be this one."""


class DockerEntry(_Part):
    """The Docker engine."""

    helper_image: Path | None = None
    """GitLab's helper image as a file, `prebuilt-…-x86_64.docker.tar.zst` or `.tar.xz` (from the package
    gitlab-runner-helper-images). None: the runner pulls it from GitLab's registry for each machine."""


class Declaration(_Part):
    """All of image.yaml."""

    name: ImageName = "default"
    """What pools call the image."""

    suite: Annotated[str, StringConstraints(pattern=r"^[a-z]+$")] = "bookworm"
    """Debian's release."""

    kernel_package: Package = "linux-image-cloud-amd64"
    """Debian's kernel; a metapackage stands for its newest."""

    packages: tuple[Package, ...] = ()
    """Debian packages beyond bash, ca-certificates, curl, git, git-lfs and iproute2."""

    files: tuple[FileEntry, ...] = ()
    """Files to add."""

    run: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    """Shell commands, run in the new root file system as root, after packages and files."""

    runner: RunnerEntry = RunnerEntry()
    docker: DockerEntry | None = None
    """A Docker engine for the runner's docker executor. None: none."""

    cloud_init: bool = False
    """Boot with systemd and cloud-init: slower, for what needs a whole Debian."""

    production: bool = Field(default=True)
    """False allows the stand-in for gitlab-runner, for tests."""


def read_declaration(path: Path) -> Declaration:
    """The declaration in `path`, its own paths made absolute. Raises `ImageError` naming file and key."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"cannot read {path}: {error}", remedy="Name another file by --file") from error
    except yaml.YAMLError as error:
        raise ImageError(f"{path} is not YAML: {error}", remedy="Mend the line named above") from error
    try:
        declared = Declaration.model_validate(data if data is not None else {})
    except ValidationError as error:
        lines = "\n".join(f"  {_sentence(each['loc'], each['type'], each['msg'])}" for each in error.errors())
        raise ImageError(f"{path} is wrong:\n{lines}", remedy="See docs/images.md for every key") from error
    base = path.absolute().parent
    files = tuple(each.model_copy(update={"source": base / each.source}) for each in declared.files)
    runner, docker = declared.runner, declared.docker
    if runner.binary is not None:
        runner = runner.model_copy(update={"binary": base / runner.binary})
    if docker is not None and docker.helper_image is not None:
        docker = docker.model_copy(update={"helper_image": base / docker.helper_image})
    return declared.model_copy(update={"files": files, "runner": runner, "docker": docker})


def checked(declared: Declaration) -> Declaration:
    """The same declaration, validated again after options have changed it. Raises `ImageError`."""
    try:
        return Declaration.model_validate(declared.model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        raise ImageError(_sentence(first["loc"], first["type"], first["msg"]), remedy="See --help") from error


def recipe_of(declared: Declaration) -> Recipe:
    """The recipe, with every file read once for its checksum. Raises `ImageError`."""
    files = [_extra(each.source, each.destination, each.mode) for each in declared.files]
    if declared.docker is not None and declared.docker.helper_image is not None:
        helper = declared.docker.helper_image
        if not _HELPER_IMAGE.fullmatch(helper.name):
            raise ImageError(
                f"the helper image {helper} has a name that gitlab-runner does not look for",
                remedy="It is called prebuilt-alpine-x86_64.docker.tar.zst or prebuilt-alpine-x86_64.tar.xz",
            )
        files.append(_extra(helper, f"{HELPER_IMAGES_DIRECTORY}/{helper.name}", "0644"))
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
        docker=declared.docker is not None,
        cloud_init=declared.cloud_init,
        production=declared.production,
    )


def _extra(source: Path, destination: str, mode: str) -> ExtraFile:
    try:
        with source.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(
            f"the file {source} for {destination} cannot be read: {error.strerror}",
            remedy="Paths count from the directory of image.yaml",
        ) from error
    return ExtraFile(source.absolute(), destination, mode, digest)


def _sentence(loc: tuple[int | str, ...], kind: str, message: str) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if kind == "extra_forbidden":
        known = _keys_at(loc[:-1])
        near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
        return f"{where}: unknown key" + (
            f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(sorted(known))}"
        )
    return f"{where or 'top level'}: {message.removeprefix('Value error, ')}"


def _keys_at(loc: tuple[int | str, ...]) -> list[str]:
    parts: dict[Any, type[_Part]] = {"files": FileEntry, "runner": RunnerEntry, "docker": DockerEntry}
    model = parts.get(loc[0], Declaration) if loc else Declaration
    return list(model.model_fields)
