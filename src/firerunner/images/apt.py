"""Fetches Debian packages the way this computer fetches its own, without touching its state.

The host's apt knows which mirror, proxy and keys work here, so its sources for the wanted Debian release
are taken over; no address is known here. Lists and downloads live in a directory of their own: no root
needed, and the host's package lists stay as they are.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firerunner.errors import ImageError
from firerunner.images.tools import run

_FIELDS: Final = ("ORIGIN", "CODENAME", "RELEASE", "COMPONENT", "REPO_URI", "ARCHITECTURE")
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_NOT_TRANSPORT: Final = re.compile(r"Acquire(::(IndexTargets|cdrom|Languages|Changelogs|Compression)\b|\s)")
_REMEDY: Final = "Check that `apt-get update` works on this computer"
_DIRECTORIES: Final = ("lists/partial", "archives/partial", "dpkg", "packages")


@dataclass(frozen=True, slots=True)
class Source:
    """One Debian repository: address, release (`bookworm`, `bookworm-security`), component."""

    uri: str
    release: str
    component: str = "main"

    def line(self) -> str:
        """As in sources.list. The keyring is named where Debian's is installed (docs: sources.list(5))."""
        signed_by = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
        return f"deb {signed_by}{self.uri} {self.release} {self.component}"


def parse_targets(text: str, suite: str) -> tuple[Source, ...]:
    """Pick Debian's main component of one release out of `apt-get indextargets` lines."""
    found: dict[Source, None] = {}
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != len(_FIELDS):
            continue
        origin, codename, release, component, uri, _architecture = fields
        if origin == "Debian" and component == "main" and re.fullmatch(rf"{suite}(-\w+)?", codename):
            found[Source(uri, release)] = None
    sources = tuple(found)
    return sources if any(source.release == suite for source in sources) else ()


def transport_settings(dump: str) -> str:
    """The lines of `apt-config dump Acquire` that say how to reach a source (proxies, CAs, retries)."""
    return "".join(f"{line}\n" for line in dump.splitlines() if not _NOT_TRANSPORT.match(line))


async def host_sources(suite: str) -> tuple[Source, ...]:
    """The host's sources for a Debian release. Raises `ImageError` if its apt knows none."""
    form = "|".join(f"$({name})" for name in _FIELDS)
    text = await run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"], remedy=_REMEDY)
    sources = parse_targets(text, suite)
    if not sources:
        raise ImageError(
            f"this computer's apt knows no Debian {suite}",
            remedy=f"Run `apt-get update`; elsewhere than on Debian, add a source for {suite} to apt first",
        )
    return sources


class Apt:
    """An apt of our own in a directory: the host's settings, our sources and lists."""

    def __init__(self, directory: Path, sources: tuple[Source, ...], settings: str) -> None:
        self._directory = directory
        self.sources = sources
        self.sources_file = directory / "sources.list"
        self.settings_file = directory / "acquire.conf"
        for name in _DIRECTORIES:
            (directory / name).mkdir(parents=True)
        (directory / "dpkg/status").touch()
        self.sources_file.write_text("".join(f"{source.line()}\n" for source in sources))
        self.settings_file.write_text(settings)
        (directory / "apt.conf").write_text(self._configuration())

    @classmethod
    async def open(cls, directory: Path, suite: str) -> Apt:
        """Look up the host's sources and settings, and fetch the package lists."""
        settings = transport_settings(await run(["apt-config", "dump", "Acquire"], remedy=_REMEDY))
        apt = cls(directory, await host_sources(suite), settings)
        await apt._run("apt-get", "update", "-q")
        return apt

    async def depends(self, package: str) -> list[str]:
        """The names of the packages on which one directly depends."""
        text = await self._run("apt-cache", "depends", "--important", package)
        return re.findall(r"^\s+(?:Pre)?Depends: ([^<\s]+)$", text, re.MULTILINE)

    async def download(self, package: str) -> Path:
        """Fetch a package, checked by apt against the signed lists, and unpack it. Returns the tree."""
        target = self._directory / "packages" / package
        target.mkdir()
        await self._run("apt-get", "download", "-q", package, cwd=target)
        debs = list(target.glob("*.deb"))
        if len(debs) != 1:
            raise ImageError(f"apt-get download {package} left {len(debs)} files", remedy=_REMEDY)
        tree = target / "tree"
        await run(["dpkg-deb", "-x", str(debs[0]), str(tree)])
        return tree

    async def _run(self, *argv: str, cwd: Path | None = None) -> str:
        return await run(
            [argv[0], "-c", str(self._directory / "apt.conf"), *argv[1:]], cwd=cwd, remedy=_REMEDY
        )

    def _configuration(self) -> str:
        here = self._directory
        return "\n".join(
            (
                f'Dir::State::lists "{here}/lists";',
                f'Dir::State::status "{here}/dpkg/status";',
                f'Dir::Cache::archives "{here}/archives";',
                'Dir::Cache::pkgcache "";',
                'Dir::Cache::srcpkgcache "";',
                f'Dir::Etc::sourcelist "{self.sources_file}";',
                'Dir::Etc::sourceparts "-";',
                'Acquire::Languages "none";',
                # The sandbox user cannot write to a directory of ours.
                'APT::Sandbox::User "root";' if os.geteuid() == 0 else "",
                # The host's hooks are about the host's lists.
                "#clear APT::Update::Post-Invoke;",
                "#clear APT::Update::Post-Invoke-Success;",
                "",
            )
        )
