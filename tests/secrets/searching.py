"""Where a secret could have got to: files, processes, and what was said."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tests.secrets.canaries import Secrets

_CHUNK = 64 << 20


def in_files(secrets: Secrets, root: Path, but: Collection[Path] = ()) -> list[str]:
    """Files below `root` that hold one, in clear; sparse files are read where they have data."""
    found = []
    for path in _files(root):
        if path in but:
            continue
        names = {name for piece in _pieces(path) for name in secrets.found_in(piece)}
        found += [f"{path.relative_to(root)}: {name}" for name in sorted(names)]
    return found


def _files(root: Path) -> Iterable[Path]:
    for path in sorted(root.rglob("*")):
        try:
            if stat.S_ISREG(path.lstat().st_mode):
                yield path
        except FileNotFoundError:
            continue


def _pieces(path: Path) -> Iterable[bytes]:
    try:
        with path.open("rb") as file:
            at, size = 0, file.seek(0, os.SEEK_END)
            while at < size:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:
                    return  # a hole up to the end
                file.seek(at)
                piece = file.read(_CHUNK)
                yield piece
                at += max(len(piece) - 1024, 1) if at + len(piece) < size else len(piece)
    except FileNotFoundError:
        return


def modes(root: Path, open_on_purpose: Mapping[str, int]) -> list[str]:
    """What others than the owner may read, write or enter below `root`, with the root itself; but for what
    stands in `open_on_purpose` with its mode, by its path from there."""
    wrong = []
    for path in (root, *sorted(root.rglob("*"))):
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(mode):
            continue
        name, rights = str(path.relative_to(root)), stat.S_IMODE(mode)
        wanted = 0o700 if stat.S_ISDIR(mode) else 0o600
        if rights & ~wanted and open_on_purpose.get(name) != rights:
            wrong.append(f"{name} has mode {rights:04o}")
    return wrong


def descendants(pid: int) -> set[int]:
    """The process and all below it; keepers detach themselves and are found by `of_directory`."""
    found, waiting = set(), [pid]
    while waiting:
        one = waiting.pop()
        found.add(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                waiting += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def of_directory(directory: Path) -> set[int]:
    """Processes whose command line names the directory, but for ourselves."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if os.fsencode(directory) in (entry / "cmdline").read_bytes():
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def in_processes(secrets: Secrets, pids: Iterable[int], given: Mapping[int, str]) -> list[str]:
    """Which of them have one in their command line or environment; `given`: the one that a process was given
    in its environment by the operator."""
    found = []
    for pid in sorted(pids):
        for what in ("cmdline", "environ"):
            try:
                content = Path(f"/proc/{pid}/{what}").read_bytes()
            except OSError:
                continue
            allowed = {given[pid]} if what == "environ" and pid in given else set()
            found += [
                f"{what} of {pid} ({_name(pid)}): {name}"
                for name in sorted(secrets.found_in(content) - allowed)
            ]
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "gone"
