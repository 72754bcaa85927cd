"""Others' servers on loopback: a vendor's package repository, GitLab's release address."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from firerunner.images.runner_binary import BINARY
from firerunner.serving import served
from tests.openpgp import Signer

CONTROL = """\
Package: vendor-tool
Version: 1.0
Architecture: all
Maintainer: A vendor <vendor@packages.test>
Description: says that it is there
"""


@contextlib.asynccontextmanager
async def web(directory: Path) -> AsyncIterator[str]:
    """Serve the files in a directory; the address."""
    directory.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app = Starlette(routes=[Mount("/", StaticFiles(directory=directory))])
        async with served(app, listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def package_repository(directory: Path, vendor: Signer) -> None:
    """A repository without components that holds the package `vendor-tool`, in the new `directory`."""
    tree = directory / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(CONTROL)
    tool = tree / "usr/bin/vendor-tool"
    tool.parent.mkdir(parents=True)
    tool.write_text("#!/bin/sh\necho the vendor was here\n")
    tool.chmod(0o755)
    deb = directory / "vendor-tool.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True)
    shutil.rmtree(tree)
    facts = f"Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {_sha256(deb.read_bytes())}\n"
    packages = (CONTROL + facts).encode()
    (directory / "Packages").write_bytes(packages)
    release = f"Origin: vendor\nSHA256:\n {_sha256(packages)} {len(packages)} Packages\n"
    (directory / "InRelease").write_bytes(vendor.clear(release.encode()))


def runner_release(directory: Path, version: str, binary: Path, gitlab: Signer) -> None:
    """A release of gitlab-runner as GitLab lays it out."""
    place = directory / version
    (place / "binaries").mkdir(parents=True)
    shutil.copyfile(binary, place / "binaries" / BINARY)
    sums = f"{_sha256(binary.read_bytes())} *binaries/{BINARY}\n".encode()
    (place / "release.sha256").write_bytes(sums)
    (place / "release.sha256.asc").write_bytes(gitlab.detached(sums))


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
