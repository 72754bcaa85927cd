"""Finds the gitlab-runner for an image: a given binary, GitLab's release, else the stand-in.

GitLab publishes releases at `BASE/VERSION/binaries/gitlab-runner-linux-amd64`, with the checksums of all
files in `BASE/VERSION/release.sha256` (gitlab-runner docs/install/bleeding-edge.md). The stand-in is never
chosen in silence: progress says so, the manifest says so, and production recipes refuse it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from firerunner.errors import ImageError
from firerunner.guest.scripts import GuestScript
from firerunner.images.manifest import RunnerKind
from firerunner.images.progress import Progress, silent
from firerunner.images.recipe import RunnerSource
from firerunner.images.tools import run

ENVIRONMENT_VARIABLE: Final = "FIRERUNNER_GITLAB_RUNNER"
RELEASES: Final = "https://gitlab-runner-downloads.s3.amazonaws.com"
BINARY: Final = "gitlab-runner-linux-amd64"
DEFAULT_VERSION: Final = "v19.4.0"

_CONTACT_S: Final = 5.0
_STALL_S: Final = 30.0
_VERSION_LINE: Final = re.compile(r"^Version:\s+(\S+)", re.MULTILINE)
_STAND_IN_MARK: Final = "FireRunner stand-in"


async def find_runner(
    work: Path,
    environment: Mapping[str, str],
    *,
    given: Path | None = None,
    version: str = DEFAULT_VERSION,
    releases: str = RELEASES,
    progress: Progress = silent,
) -> RunnerSource:
    """The best gitlab-runner to be had. What is fetched or made is put into `work`.

    Raises `ImageError` for a given binary that does not work and for a release whose checksum is wrong:
    neither is replaced by the stand-in.
    """
    path = given or (
        Path(environment[ENVIRONMENT_VARIABLE]) if environment.get(ENVIRONMENT_VARIABLE) else None
    )
    if path is not None:
        return await given_runner(path)
    try:
        return await released_runner(work, version=version, releases=releases, progress=progress)
    except httpx.HTTPError as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    progress("runner", f"gitlab-runner {version} cannot be fetched from {releases} ({reason})")
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


async def released_runner(
    work: Path, *, version: str, releases: str, progress: Progress = silent
) -> RunnerSource:
    """GitLab's release, checked against GitLab's checksum.

    Raises `httpx.HTTPError` if there is no contact or no such release, `ImageError` for a wrong checksum.
    """
    timeout = httpx.Timeout(_STALL_S, connect=_CONTACT_S)
    async with httpx.AsyncClient(timeout=timeout, follow_redirects=True) as client:
        progress("runner", f"asking {releases} for gitlab-runner {version}")
        sums = await client.get(f"{releases}/{version}/release.sha256", timeout=_CONTACT_S)
        expected = checksum(sums.raise_for_status().text)
        path = work / "gitlab-runner"
        await _download(client, f"{releases}/{version}/binaries/{BINARY}", path, progress)
    _, seen = await asyncio.to_thread(_measure, path)
    if seen != expected:
        path.unlink()
        raise ImageError(
            f"gitlab-runner {version} from {releases} has SHA-256 {seen}, GitLab's list says {expected}",
            remedy="Try again; if it happens twice, something between here and GitLab changes the file",
        )
    path.chmod(0o755)
    return await given_runner(path)


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
