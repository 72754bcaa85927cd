"""The external programs that image building needs, and the one way in which it runs them.

Programs run in a session of their own, so that a cancelled build can end them with all their children;
their last lines go into the error, because `exit status 1` alone helps nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from firerunner.errors import ImageError
from firerunner.hiding import environment_for_programs

_KEPT_LINES: Final = 15
_TERM_GRACE_S: Final = 10.0
_SBIN: Final = ("/usr/local/sbin", "/usr/sbin", "/sbin")


class Tool(NamedTuple):
    """A program, the Debian package that has it, and what it is for."""

    tool: str
    package: str
    why: str


TOOLS: Final = (
    Tool("mmdebstrap", "mmdebstrap", "makes the root file system from Debian packages"),
    Tool("apt-get", "apt", "fetches the kernel"),
    Tool("dpkg-deb", "dpkg", "unpacks the kernel"),
    Tool("lz4", "lz4", "unpacks the ELF kernel from its bzImage"),
    Tool("tar", "tar", "unpacks the root file system"),
    Tool("mkfs.ext4", "e2fsprogs", "makes the root file system's image"),
)
ROOTLESS_TOOLS: Final = (
    Tool("newuidmap", "uidmap", "lets a user other than root own the root file system's files"),
    Tool("unshare", "util-linux", "lets a user other than root own the root file system's files"),
)


def search_path() -> str:
    """PATH with the sbin directories, which Debian leaves out for normal users."""
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join([*parts, *(sbin for sbin in _SBIN if sbin not in parts)])


def missing_tools() -> list[Tool]:
    """What must still be installed before an image can be built here; empty if nothing."""
    needed = TOOLS if os.geteuid() == 0 else TOOLS + ROOTLESS_TOOLS
    path = search_path()
    return [tool for tool in needed if shutil.which(tool.tool, path=path) is None]


def require_tools() -> None:
    """Raise `ImageError` naming every missing program and the one command that installs them."""
    missing = missing_tools()
    if missing:
        named = ", ".join(f"{tool.tool} ({tool.why})" for tool in missing)
        packages = " ".join(sorted({tool.package for tool in missing}))
        raise ImageError(f"programs are missing: {named}", remedy=f"apt-get install {packages}")


async def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
    remedy: str = "",
) -> str:
    """Run a program to its end and return its output (stdout and stderr together).

    Raises `ImageError` with the command and its last lines if it cannot start or does not exit with 0.
    When cancelled, ends the program's whole session before it lets go.
    """
    environment = {
        **environment_for_programs(os.environ),
        "LC_ALL": "C.UTF-8",
        "PATH": search_path(),
        **(env or {}),
    }
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            limit=1 << 20,
        )
    except OSError as error:
        raise ImageError(f"{argv[0]} does not start: {error.strerror}", remedy=remedy) from error
    try:
        lines = await _read_lines(process, on_line)
        status = await process.wait()
    except BaseException:
        await _end(process)
        raise
    if status != 0:
        raise ImageError(
            f"`{shlex.join(argv)}` ended with status {status}:\n" + "\n".join(lines[-_KEPT_LINES:]),
            remedy=_remedy_for(lines) or remedy,
        )
    return "\n".join(lines)


async def _read_lines(
    process: asyncio.subprocess.Process, on_line: Callable[[str], None] | None
) -> list[str]:
    assert process.stdout is not None  # noqa: S101 - asked for with PIPE
    lines: deque[str] = deque(maxlen=5000)
    async for raw in process.stdout:
        line = raw.decode(errors="replace").rstrip()
        lines.append(line)
        if on_line is not None and line:
            on_line(line)
    return list(lines)


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            await asyncio.shield(asyncio.wait_for(process.wait(), _TERM_GRACE_S))
        except TimeoutError:
            continue
        return


def _remedy_for(lines: Sequence[str]) -> str:
    """What the output of many programs says about causes that have nothing to do with the program."""
    text = "\n".join(lines).lower()
    return next((remedy for sign, remedy in _SIGNS.items() if sign in text), "")


_SIGNS: Final[Mapping[str, str]] = {
    "no space left on device": "The disk is full: free some space, or use another state directory",
    "could not resolve": "No package source can be reached: check the network and the proxy settings of apt",
    "not signed": "apt does not trust the package source: check its Signed-By key",
    "newuidmap": "Give this user subordinate ids (/etc/subuid, /etc/subgid), or build as root",
}
