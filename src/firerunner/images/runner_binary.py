"""Finds the gitlab-runner for an image: a given binary, GitLab's release, else the stand-in.

GitLab publishes releases at `BASE/VERSION/binaries/gitlab-runner-linux-amd64`, with the checksums of all
files in `BASE/VERSION/release.sha256` and a signature of that list in `release.sha256.asc`, made with the
key of GitLab's packages (gitlab-runner: .gitlab/ci/postrelease.gitlab-ci.yml and
docs/install/linux-repository.md). The stand-in is never chosen in silence: progress says so, the manifest
says so, and production recipes refuse it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from firerunner.errors import ImageError
from firerunner.guest.scripts import GuestScript
from firerunner.images.keys import dearmored
from firerunner.images.manifest import RunnerKind
from firerunner.images.progress import Progress, silent
from firerunner.images.recipe import RunnerSource
from firerunner.images.tools import run

ENVIRONMENT_VARIABLE: Final = "FIRERUNNER_GITLAB_RUNNER"
RELEASES: Final = "https://gitlab-runner-downloads.s3.amazonaws.com"
BINARY: Final = "gitlab-runner-linux-amd64"
DEFAULT_VERSION: Final = "v19.4.0"
_SUMS: Final = "release.sha256"

_CONTACT_S: Final = 5.0
_STALL_S: Final = 30.0
_VERSION_LINE: Final = re.compile(r"^Version:\s+(\S+)", re.MULTILINE)
_STAND_IN_MARK: Final = "FireRunner stand-in"


@dataclass(frozen=True, slots=True)
class RunnerWish:
    """Which gitlab-runner is wanted where no binary is given, and what any must be."""

    version: str = DEFAULT_VERSION
    sha256: str | None = None
    """If given, the checksum that the runner must have, wherever it comes from."""
    key: Path | None = None
    """GitLab's public key: if given, the list of checksums must be signed with it."""
    releases: str = RELEASES
    """Where releases are: GitLab's address or a mirror of it."""


ANY_RUNNER: Final = RunnerWish()


async def find_runner(
    work: Path,
    environment: Mapping[str, str],
    *,
    given: Path | None = None,
    wish: RunnerWish = ANY_RUNNER,
    stand_in: bool = True,
    progress: Progress = silent,
) -> RunnerSource:
    """The best gitlab-runner to be had. What is fetched or made is put into `work`.

    Raises `ImageError` for a given binary that does not work and for a release whose checksum or signature
    is wrong: neither is replaced by the stand-in. Nor is a release that is not there, if `stand_in` is False.
    """
    path = given or (
        Path(environment[ENVIRONMENT_VARIABLE]) if environment.get(ENVIRONMENT_VARIABLE) else None
    )
    if path is not None:
        runner = await given_runner(path)
        require_checksum(runner, wish.sha256)
        return runner
    try:
        runner = await released_runner(work, wish, progress=progress)
        require_checksum(runner, wish.sha256)
        return runner
    except httpx.HTTPError as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    missing = f"gitlab-runner {wish.version} cannot be fetched from {wish.releases} ({reason})"
    if not stand_in or wish.sha256 is not None or wish.key is not None:
        raise ImageError(
            missing,
            remedy="Check version, network and proxy (https_proxy), or give the binary by --runner-binary",
        )
    progress("runner", missing)
    progress("runner", "USING THE STAND-IN for gitlab-runner: good for demos and tests, not for production")
    return await stand_in_runner(work)


async def given_runner(path: Path) -> RunnerSource:
    """A binary that the operator gave. It is run once, to learn its version."""
    remedy = f"Give a gitlab-runner binary for Linux on amd64 (--runner-binary, {ENVIRONMENT_VARIABLE})"
    absolute, digest = await asyncio.to_thread(_measure, path, remedy)
    output = await run([str(absolute), "--version"], remedy=remedy)
    match = _VERSION_LINE.search(output)
    if match is None:
        raise ImageError(f"`{path} --version` does not name a version", remedy=remedy)
    kind = RunnerKind.STAND_IN if _STAND_IN_MARK in output else RunnerKind.OFFICIAL
    return RunnerSource(kind, absolute, match[1], digest)


async def stand_in_runner(work: Path) -> RunnerSource:
    """The stand-in, written into `work`."""
    path = work / "gitlab-runner"
    path.write_bytes(GuestScript.STAND_IN.read())
    path.chmod(0o755)
    return await given_runner(path)


async def released_runner(work: Path, wish: RunnerWish, *, progress: Progress = silent) -> RunnerSource:
    """GitLab's release, checked against GitLab's checksum.

    Raises `httpx.HTTPError` if there is no contact or no such release, `ImageError` for a wrong checksum or
    signature.
    """
    timeout = httpx.Timeout(_STALL_S, connect=_CONTACT_S)
    place = f"{wish.releases.rstrip('/')}/{wish.version}"
    async with httpx.AsyncClient(timeout=timeout, follow_redirects=True) as client:
        progress("runner", f"asking {wish.releases} for gitlab-runner {wish.version}")
        sums = (await client.get(f"{place}/{_SUMS}", timeout=_CONTACT_S)).raise_for_status().content
        if wish.key is not None:
            signature = await client.get(f"{place}/{_SUMS}.asc", timeout=_CONTACT_S)
            await _require_signature(work, sums, signature.raise_for_status().content, wish.key)
            progress("runner", f"the list of checksums is signed with the key in {wish.key}")
        expected = checksum(sums.decode(errors="replace"))
        path = work / "gitlab-runner"
        await _download(client, f"{place}/binaries/{BINARY}", path, progress)
    _, seen = await asyncio.to_thread(_measure, path)
    if seen != expected:
        path.unlink()
        raise ImageError(
            f"gitlab-runner {wish.version} from {wish.releases} has SHA-256 {seen}, "
            f"GitLab's list says {expected}",
            remedy="Try again; if it happens twice, something between here and GitLab changes the file",
        )
    path.chmod(0o755)
    return await given_runner(path)


async def _require_signature(work: Path, sums: bytes, signature: bytes, key: Path) -> None:
    """gpgv is apt's own way to check signatures, so it is wherever Debian is."""
    try:
        content = key.read_bytes()
    except OSError as error:
        raise ImageError(
            f"the key {key} cannot be read: {error.strerror}", remedy="See runner.key"
        ) from error
    files = {"sums": sums, "sums.asc": signature, "key.gpg": dearmored(content)}
    for name, data in files.items():
        (work / name).write_bytes(data)
    await run(
        ["gpgv", "--keyring", str(work / "key.gpg"), str(work / "sums.asc"), str(work / "sums")],
        remedy=f"The key in {key} has not signed this list: get GitLab's present key, or another release",
    )
    for name in files:
        (work / name).unlink()


def require_checksum(runner: RunnerSource, expected: str | None) -> None:
    """Raise `ImageError` if the runner is not the one that the operator has pinned."""
    if expected is not None and runner.sha256 != expected:
        raise ImageError(
            f"gitlab-runner {runner.version} has SHA-256 {runner.sha256}, and {expected} is demanded",
            remedy="Give the binary that was meant, or change runner.sha256",
        )


def checksum(sums: str) -> str:
    """The checksum of the binary for this architecture in a release.sha256. Raises `ImageError`."""
    for line in sums.splitlines():
        match = re.fullmatch(rf"([0-9a-f]{{64}})\s+\*?(?:\S*/)?{re.escape(BINARY)}", line.strip())
        if match:
            return match[1]
    raise ImageError(
        f"GitLab's release.sha256 does not name {BINARY}", remedy="Give the binary by --runner-binary"
    )


async def _download(client: httpx.AsyncClient, url: str, path: Path, progress: Progress) -> None:
    async with client.stream("GET", url) as response:
        total = int(response.raise_for_status().headers.get("content-length", 0))
        fetched = 0
        with path.open("wb") as file:
            async for chunk in response.aiter_bytes(1 << 20):
                file.write(chunk)
                fetched += len(chunk)
                progress("runner", f"fetched {fetched >> 20} of {total >> 20} MiB")


def _measure(path: Path, remedy: str = "") -> tuple[Path, str]:
    """The file's absolute path and its SHA-256."""
    try:
        with path.open("rb") as stream:
            return path.absolute(), hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}", remedy=remedy) from error
