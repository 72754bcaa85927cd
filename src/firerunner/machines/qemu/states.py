"""The saved states of one state directory: written whole or not at all, read only if they are what they were.

A state is a directory named by its key, with the guest's memory, its disk, QEMU's stream of all else, what
they were made with, and their digests. To be used it is read once into files in memory, which are sealed: a
QEMU that a guest has broken into cannot change what the next machine starts from.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import struct
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firerunner.machines.qemu.statekey import key_of

PIECE_BYTES = 64 * 1024
_NOTHING = bytes(PIECE_BYTES)
_PLACE = struct.Struct("<Q")
_MEMORY, _DEVICES, _DISK, _FACTS = "memory", "devices", "disk", "facts.json"
_KEY = re.compile(r"[0-9a-f]{32}")
_HALF_MADE = ".half-made-"
UNMAPPED_WITHIN_S = 10.0
LOOK_AGAIN_S = 0.05

SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class Doubtful(Exception):
    """A state is there and not to be used; the text says why."""


@dataclass(frozen=True, slots=True)
class State:
    """A state in memory: three sealed files, by descriptor."""

    memory: int
    devices: int
    disk: int

    def close(self) -> None:
        """Machines that were restored from it have it open on their own."""
        for fd in (self.memory, self.devices, self.disk):
            os.close(fd)

    def copy(self) -> State:
        """The same files, to be closed on their own."""
        return State(*(os.dup(fd) for fd in (self.memory, self.devices, self.disk)))

    def seal(self) -> None:
        """Nobody can change the files from now on. Raises OSError if somebody still maps one to write."""
        for fd in (self.memory, self.devices, self.disk):
            seal(fd)


def empty(name: str, size: int = 0) -> int:
    """A file in memory that can be sealed, as long as `size` bytes."""
    fd = os.memfd_create(f"firerunner-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd


def seal(fd: int) -> None:
    """Nobody can change the file from now on. Raises OSError if somebody still maps it to write.

    A QEMU that was killed is gone from /proc before the kernel has taken its memory apart, which takes a
    while for gigabytes on a busy computer: until then the answer is EBUSY (fcntl(2)).
    """
    until = time.monotonic() + UNMAPPED_WITHIN_S
    while True:
        try:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                raise
            time.sleep(LOOK_AGAIN_S)
        else:
            return


class StateFiles:
    """Blocking calls. Who writes is alone with that (`saving`)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keys(self) -> list[str]:
        """Of all states that are there, usable or not."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.name for path in self.directory.iterdir() if _KEY.fullmatch(path.name))
        return []

    def mib(self) -> int:
        """What they take on the disk."""
        blocks = 0
        for path in self.directory.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # it was pruned meanwhile
                blocks += path.stat().st_blocks
        return blocks * 512 >> 20

    def read(self, facts: Mapping[str, str]) -> State | None:
        """The state that was made with these facts, in memory; None if there is none. Raises `Doubtful`."""
        directory = self.directory / key_of(facts)
        if not directory.is_dir():
            return None
        try:
            written: dict[str, Any] = json.loads((directory / _FACTS).read_bytes())
            if written["facts"] != dict(facts):
                raise Doubtful("it was made with something else than its name says")
            sizes, digests = written["bytes"], written["sha256"]
            with contextlib.ExitStack() as undone:
                memory = _unpacked(directory, _MEMORY, sizes, digests)
                undone.callback(os.close, memory)
                disk = _unpacked(directory, _DISK, sizes, digests)
                undone.callback(os.close, disk)
                devices = _copied(directory / _DEVICES, digests[_DEVICES])
                undone.pop_all()
        except Doubtful:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Doubtful(f"it cannot be read: {error}") from error
        return State(memory, devices, disk)

    def write(self, facts: Mapping[str, str], state: State) -> None:
        """Put a state there, under its key. Raises OSError; then it is not there."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=_HALF_MADE, dir=self.directory))
        try:
            digests = {
                _MEMORY: _pack(state.memory, fresh / _MEMORY),
                _DISK: _pack(state.disk, fresh / _DISK),
                _DEVICES: _write(
                    fresh / _DEVICES, os.pread(state.devices, os.fstat(state.devices).st_size, 0)
                ),
            }
            written = {
                "facts": dict(facts),
                "bytes": {
                    _MEMORY: os.fstat(state.memory).st_size,
                    _DISK: os.fstat(state.disk).st_size,
                },
                "sha256": digests,
            }
            _write(fresh / _FACTS, json.dumps(written, indent=1).encode())
            self.remove(key_of(facts))
            fresh.rename(self.directory / key_of(facts))
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise

    def remove(self, key: str) -> None:
        """It is gone afterwards. Machines that were restored from it are not touched."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.directory / key)

    def prune(self, wanted: Collection[str], *, half_made: bool = True) -> list[str]:
        """Remove all states but those with the wanted keys, and what a killed writer has left: not while one
        may be at work."""
        gone = [key for key in self.keys() if key not in wanted]
        for key in gone:
            self.remove(key)
        for half in self.directory.glob(f"{_HALF_MADE}*") if half_made else ():
            shutil.rmtree(half, ignore_errors=True)
        return gone


def _pack(fd: int, target: Path) -> str:
    """Write the pieces that are not all zero, each behind its place. Returns the SHA-256."""
    digest = hashlib.sha256()
    size = os.fstat(fd).st_size
    with _created(target) as file:
        at = _next_data(fd, 0, size)
        while at < size:
            piece = os.pread(fd, PIECE_BYTES, at)
            if piece != _NOTHING[: len(piece)]:
                for part in (_PLACE.pack(at), piece):
                    file.write(part)
                    digest.update(part)
            at = _next_data(fd, at + PIECE_BYTES, size)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _next_data(fd: int, at: int, size: int) -> int:
    """The first piece from `at` on in which something may be."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA) // PIECE_BYTES * PIECE_BYTES if at < size else size
    except OSError:  # ENXIO: nothing up to the end
        return size


def _unpacked(directory: Path, name: str, sizes: Mapping[str, int], digests: Mapping[str, str]) -> int:
    size = int(sizes[name])
    fd = empty(name, size)
    digest = hashlib.sha256()
    try:
        with (directory / name).open("rb") as file:
            while place := file.read(_PLACE.size):
                piece = file.read(PIECE_BYTES)
                digest.update(place)
                digest.update(piece)
                (at,) = _PLACE.unpack(place)
                if at + len(piece) > size:
                    raise Doubtful(f"its {name} is damaged")
                os.pwrite(fd, piece, at)
        if digest.hexdigest() != digests[name]:
            raise Doubtful(f"its {name} is not what was written")
        seal(fd)
    except (struct.error, Doubtful) as error:
        os.close(fd)
        raise Doubtful(str(error)) from error
    except BaseException:
        os.close(fd)
        raise
    return fd


def _copied(path: Path, sha256: str) -> int:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Doubtful("its devices are not what was written")
    fd = empty(_DEVICES)
    os.pwrite(fd, content, 0)
    seal(fd)
    return fd


def _write(path: Path, content: bytes) -> str:
    with _created(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _created(path: Path) -> Any:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
