"""Reads the tree in an ext4 file, so that others can have it as a tar; needs no rights and no loop device.

debugfs writes the files out, but drops set-user-id bits and, for normal users, owners; those are taken from
its listings (`ls -p`, debugfs(8): /inode/mode/uid/gid/name/size/).
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from firerunner.errors import ImageError
from firerunner.images.tools import run

_ROOT_INODE: Final = 2
_FIELDS: Final = 8
_NOT_OURS: Final = "lost+found"
_REMEDY: Final = "Build the image again"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the tree."""

    path: str
    """Relative to the root."""
    inode: int
    mode: int
    """With the type's bits."""
    uid: int
    gid: int
    size: int


@dataclass(frozen=True, slots=True)
class Tree:
    """All names, parents before children, and a directory that holds the content."""

    entries: tuple[Entry, ...]
    content: Path

    def add_to(self, tar: tarfile.TarFile, symlinks_mtime_s: int) -> None:
        """Write everything; the same tree always gives the same bytes.

        debugfs does not bring the times of symbolic links, so all have the given one. Raises `ImageError`
        if the content is not whole.
        """
        first: dict[int, str] = {}
        for entry in self.entries:
            info = tarfile.TarInfo(entry.path)
            info.mode, info.uid, info.gid = stat.S_IMODE(entry.mode), entry.uid, entry.gid
            path = self._content_of(entry)
            if stat.S_ISLNK(entry.mode):
                info.type, info.linkname, info.mtime = tarfile.SYMTYPE, str(path.readlink()), symlinks_mtime_s
                tar.addfile(info)
                continue
            status = path.stat()
            info.mtime = int(status.st_mtime)
            if stat.S_ISDIR(entry.mode):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif entry.inode in first:
                info.type, info.linkname = tarfile.LNKTYPE, first[entry.inode]
                tar.addfile(info)
            elif status.st_size != entry.size:
                raise ImageError(
                    f"/{entry.path} has {entry.size} bytes in the image, {status.st_size} came out",
                    remedy=_REMEDY,
                )
            else:
                first[entry.inode] = entry.path
                info.size = entry.size
                with path.open("rb") as content:
                    tar.addfile(info, content)

    def _content_of(self, entry: Entry) -> Path:
        path = self.content / entry.path
        if not os.path.lexists(path):
            raise ImageError(f"/{entry.path} did not come out of the image", remedy=_REMEDY)
        return path


async def read_tree(filesystem: Path, work: Path) -> Tree:
    """Take the tree out of an ext4 file. `work` is a directory; the caller removes what is in it.

    Raises `ImageError` if the file is no file system, or holds what is neither file, directory nor link.
    """
    content = work / "tree"
    content.mkdir()
    entries: list[Entry] = []
    level = {_ROOT_INODE: ""}
    while level:
        listed = await _debugfs(filesystem, work, [f"ls -p <{inode}>" for inode in level])
        found = list(_parse(listed, list(level.values())))
        entries += found
        level = {each.inode: f"{each.path}/" for each in found if stat.S_ISDIR(each.mode)}
    if not entries:
        raise ImageError(f"{filesystem} holds no file system", remedy=_REMEDY)
    await _debugfs(filesystem, work, [f"rdump / {content.name}"])
    return Tree(tuple(sorted(entries, key=lambda entry: entry.path)), content)


async def _debugfs(filesystem: Path, work: Path, commands: list[str]) -> list[str]:
    script = work / "debugfs.commands"
    script.write_text("".join(f"{command}\n" for command in commands))
    lines: list[str] = []
    await run(
        ["debugfs", "-f", str(script), str(filesystem.absolute())],
        cwd=work,
        on_line=lines.append,
        remedy="apt-get install e2fsprogs",
    )
    return lines


def _parse(listed: list[str], directories: list[str]) -> Iterator[Entry]:
    """The entries of some directories, in the order in which they were asked for."""
    asked = -1
    for line in listed:
        if line.startswith("debugfs: ls -p <"):
            asked += 1
            continue
        fields = line.split("/")
        if asked < 0 or not line.startswith("/"):
            continue
        if len(fields) != _FIELDS:
            raise ImageError(f"a name in the image cannot be read: {line!r}", remedy=_REMEDY)
        _, inode, mode, uid, gid, name, size, _ = fields
        if name in {".", ".."} or (not directories[asked] and name == _NOT_OURS):
            continue
        entry = Entry(
            directories[asked] + name, int(inode), int(mode, 8), int(uid), int(gid), int(size or "0")
        )
        if not (stat.S_ISREG(entry.mode) or stat.S_ISDIR(entry.mode) or stat.S_ISLNK(entry.mode)):
            raise ImageError(
                f"/{entry.path} is neither a file nor a directory nor a link",
                remedy="Take it out of the image",
            )
        yield entry
