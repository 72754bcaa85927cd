"""`image.yaml`: an image as the operator declares it, checked once."""

from __future__ import annotations

import difflib
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from firerunner.errors import ImageError
from firerunner.images.manifest import ImageName, Sha256
from firerunner.images.runner_binary import DEFAULT_VERSION, RELEASES, RunnerWish

EXAMPLE: Final = """\
# An image for CI jobs: firerunner image build --file image.yaml
name: default
packages: [build-essential, python3-venv]     # Debian packages
files:
  - source: pip.conf                          # beside this file
    destination: /etc/pip.conf
environment: {PIP_NO_INPUT: "1"}              # for every job of the shell executor
run:                                          # in the new system, as root, at the end
  - useradd --create-home builder
runner:
  version: v19.4.0                            # fetched from GitLab and checked against its checksums
# docker: {}                                  # a Docker engine, for the runner's docker executor
"""

_EMPTY_AT_BOOT: Final = ("/dev", "/proc", "/run", "/sys", "/var/run", "/var/lib/docker")
_OURS: Final = (
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/cloud/cloud.cfg.d/90_firerunner.cfg",
    "/etc/firerunner",
    "/var/lib/apt/lists",
)
_REPLACED_LATER: Final = frozenset({"/etc/hosts", "/etc/hostname", "/etc/machine-id", "/etc/resolv.conf"})

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
    """Permissions, octal, in quotes."""

    owner: Annotated[
        str, StringConstraints(pattern=r"^([a-z_][a-z0-9_-]*|\d+)(:([a-z_][a-z0-9_-]*|\d+))?$")
    ] = "root"
    """`user` or `user:group`; a package or a command of `run` may have made them."""

    @field_validator("destination")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        path = PurePosixPath("/", value.lstrip("/"))
        if not value.startswith("/") or ".." in path.parts or value.endswith("/") or len(path.parts) == 1:
            raise ValueError("expected an absolute path of a file, without ..")
        for place in map(PurePosixPath, _EMPTY_AT_BOOT):
            if path.is_relative_to(place):
                raise ValueError(f"{place} is empty when a guest boots; choose another place")
        for place in map(PurePosixPath, _OURS):
            if path.is_relative_to(place):
                raise ValueError(f"{place} is written by the build; choose another place")
        if str(path) in _REPLACED_LATER:
            raise ValueError("it is written anew in every guest")
        if str(path) == "/usr/local/bin/gitlab-runner":
            raise ValueError("give the runner by runner.binary")
        return str(path)


class AptEntry(_Part):
    """One package repository beside Debian's."""

    uri: Annotated[str, StringConstraints(pattern=r"^https?://[^\s\[\]\"']+$")]
    """Address of the repository."""

    suite: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.][\w./+-]*$")]
    """Release in it, as in sources.list; a path with `/` at its end has no components."""

    components: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w./+-]*$")], ...] = ()
    """Parts of the release, as in sources.list."""

    key: Path
    """The repository's public key, beside image.yaml if the path is relative. No other key can sign it."""

    @model_validator(mode="after")
    def _has_components(self) -> AptEntry:
        if self.suite.endswith("/") == bool(self.components):
            raise ValueError("components are needed, unless suite ends with / and then there are none")
        return self


class RunnerEntry(_Part):
    """The gitlab-runner."""

    version: Annotated[str, StringConstraints(pattern=r"^v\d+\.\d+\.\d+$")] = DEFAULT_VERSION
    """GitLab's release to fetch, and to check against GitLab's list of checksums."""

    binary: Path | None = None
    """A binary to take instead, beside image.yaml if the path is relative."""

    sha256: Sha256 | None = None
    """If given, the runner's checksum must be this one."""

    key: Path | None = None
    """GitLab's public key, beside image.yaml if the path is relative: if given, GitLab's list of checksums
    must be signed with it."""

    releases: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] = RELEASES
    """Address of GitLab's releases, or of your mirror of them."""

    @model_validator(mode="after")
    def _one_source(self) -> RunnerEntry:
        if self.binary is not None and self.key is not None:
            raise ValueError("key is about GitLab's release, so it does not go together with binary")
        return self

    @property
    def wish(self) -> RunnerWish:
        """In the form that the builder works with."""
        return RunnerWish(self.version, self.sha256, self.key, self.releases)


class DockerEntry(_Part):
    """The Docker engine."""

    helper_image: Path | None = None
    """GitLab's helper image as a file: `prebuilt-alpine-x86_64.tar.xz` of the package
    gitlab-runner-helper-images, or any `….tar` of `docker save`. None: the runner pulls it from GitLab's
    registry in each machine."""


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

    apt: tuple[AptEntry, ...] = ()
    """Package repositories beside Debian's; they stay known to apt in the guest."""

    files: tuple[FileEntry, ...] = ()
    """Files to add."""

    environment: dict[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")],
        Annotated[str, StringConstraints(pattern=r"^[^\n\r\x00]*$")],
    ] = {}
    """Variables for gitlab-runner and what it starts in the machine itself: jobs of the shell executor, the
    Docker engine. What a pool or a job says comes later and wins."""

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
    apt = tuple(each.model_copy(update={"key": base / each.key}) for each in declared.apt)
    runner, docker = declared.runner, declared.docker
    paths = {key: base / path for key in ("binary", "key") if (path := getattr(runner, key)) is not None}
    runner = runner.model_copy(update=paths)
    if docker is not None and docker.helper_image is not None:
        docker = docker.model_copy(update={"helper_image": base / docker.helper_image})
    return declared.model_copy(update={"files": files, "apt": apt, "runner": runner, "docker": docker})


def checked(declared: Declaration) -> Declaration:
    """The same declaration, validated again after options have changed it. Raises `ImageError`."""
    try:
        return Declaration.model_validate(declared.model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        raise ImageError(_sentence(first["loc"], first["type"], first["msg"]), remedy="See --help") from error


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
    parts: dict[Any, type[_Part]] = {
        "apt": AptEntry,
        "files": FileEntry,
        "runner": RunnerEntry,
        "docker": DockerEntry,
    }
    model = parts.get(loc[0], Declaration) if loc else Declaration
    return list(model.model_fields)
