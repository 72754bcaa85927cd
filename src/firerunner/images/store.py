"""Keeps images on this computer: one directory per digest, names that point to them.

```
images/
├── .lock                one build or prune at a time
├── .build-XXXX/         a build in progress; removed when it ends, however it ends
├── names/NAME           symbolic link to ../DIGEST
└── DIGEST/              manifest.json, kernel, initramfs, root, verified.json, published.json
```

Directories appear whole (by rename) or not at all. Nothing in them is changed afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from firerunner.errors import DigestMismatch, ImageError, ImageMissing
from firerunner.images.manifest import FileFacts, ImageFile, Manifest, read_manifest
from firerunner.images.progress import Progress, silent
from firerunner.machines.spec import ImageFiles, Published

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_DIGEST_PREFIX: Final = re.compile(r"[0-9a-f]{8,64}")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_MANIFEST: Final = "manifest.json"
_VERIFIED: Final = "verified.json"
_PUBLISHED: Final = "published.json"
_STAGE_PREFIX: Final = ".build-"
_LOCK_POLL_S: Final = 0.5


Stamps = tuple[tuple[int, int, int, int] | None, ...]
"""Inode, size and times of each file of an image; None for one that is not there."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was found and checked."""

    manifest: Manifest
    files: ImageFiles


class Store:
    """The images below one directory, which is made when first needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._verified: dict[Path, dict[str, list[int]]] = {}
        self._resolved: dict[str, tuple[Stamps, Image]] = {}
        self._changed: dict[str, tuple[Stamps, DigestMismatch]] = {}
        self._read: set[str] = set()

    # Reading

    def names(self) -> dict[str, str]:
        """Digest by name."""
        links = self._directory / "names"
        if not links.is_dir():
            return {}
        return {
            link.name: link.readlink().name for link in sorted(links.iterdir()) if _NAME.fullmatch(link.name)
        }

    def manifests(self) -> list[Manifest]:
        """All images that this version understands, newest first."""
        manifests = []
        for digest in self._digests():
            with contextlib.suppress(ImageError):
                manifests.append(self._manifest(digest))
        return sorted(manifests, key=lambda manifest: manifest.built_at, reverse=True)

    def _digests(self) -> list[str]:
        if not self._directory.is_dir():
            return []
        return [entry.name for entry in self._directory.iterdir() if _DIGEST.fullmatch(entry.name)]

    def inspect(self, reference: str) -> Manifest:
        """The manifest of an image by name, digest or the digest's first 8 or more digits.

        Raises `ImageMissing`, or `DigestMismatch` if the manifest was changed.
        """
        return self._manifest(self._find(reference))

    def resolve(self, reference: str) -> Image:
        """The image, with every file checked against its digest.

        A file whose inode, size and time of change are those of an earlier check is not read again.
        Raises `ImageMissing`, or `DigestMismatch` naming the file.
        """
        digest = self._find(reference)
        directory = self._directory / digest
        now = _stamps(directory)
        known, image = self._resolved.get(digest, (None, None))
        if image is not None and known == now:
            return image
        seen, error = self._changed.get(digest, (None, None))
        if error is not None and seen == now:  # as wrong as it was: no need to read it all for that
            raise error
        return self._check_again(digest, now)

    def verify(self, reference: str) -> Image:
        """As `resolve`, and every file is read, whatever earlier processes have noted; once for each process.

        It may take seconds: call it in a thread.
        """
        digest = self._find(reference)
        if digest not in self._read:
            self._check_again(digest, _stamps(self._directory / digest), afresh=True)
            self._read.add(digest)
        return self.resolve(digest)

    def _check_again(self, digest: str, now: Stamps, *, afresh: bool = False) -> Image:
        try:
            image = self._checked(self._manifest(digest), afresh=afresh)
        except DigestMismatch as error:
            self._resolved.pop(digest, None)
            self._changed[digest] = now, error
            raise
        self._resolved[digest] = _stamps(self._directory / digest), image
        return image

    def _checked(self, manifest: Manifest, *, afresh: bool) -> Image:
        directory = self._directory / manifest.digest
        verified = {} if afresh else self._known_stamps(directory)
        stamps: dict[str, list[int]] = {}
        for name, facts in manifest.files.items():
            path = directory / name
            stamps[name] = self._stamp(path)
            if verified.get(name) != stamps[name]:
                _check(path, facts)
        if stamps != verified:
            self._remember(directory, stamps)
        return Image(
            manifest,
            ImageFiles(
                digest=manifest.digest,
                kernel=directory / ImageFile.KERNEL,
                initramfs=directory / ImageFile.INITRAMFS,
                root=directory / ImageFile.ROOT,
                published=_published(directory / _PUBLISHED),
            ),
        )

    # Writing

    def note_published(self, image: Image, published: Published) -> None:
        """Remember where hosts can pull its kernel and root; the latest place counts."""
        target = self._directory / image.manifest.digest / _PUBLISHED
        try:
            _replace(target, json.dumps(asdict(published)).encode())
        except OSError as error:
            raise ImageError(
                f"{target} cannot be written: {error.strerror}", remedy="Push as the user who owns the images"
            ) from error

    @contextlib.asynccontextmanager
    async def stage(self, progress: Progress = silent) -> AsyncIterator[Path]:
        """A fresh directory for one build, under the store's lock; gone afterwards, whatever happens."""
        async with self._locked(progress):
            self._sweep_stages()
            stage = self._new_stage()
            try:
                yield stage
            finally:
                shutil.rmtree(stage, ignore_errors=True)

    def commit(self, files: Path, manifest: Manifest, *, named: bool = True) -> Image:
        """Make the files in a directory of a stage an image of that manifest; `named`: point its name to it.

        Call it within `stage`. The directory is moved, not copied; it must hold the image's files only.
        """
        sealed = manifest.sealed()
        for name, facts in sealed.files.items():
            (files / name).chmod(0o644)
            _check(files / name, facts)
        (files / _MANIFEST).write_text(sealed.model_dump_json(indent=2) + "\n")
        files.chmod(0o755)
        target = self._directory / sealed.digest
        if not self._is_whole(sealed.digest):
            shutil.rmtree(target, ignore_errors=True)
            _flush(files)
            files.rename(target)
            self._remember(target, {name: self._stamp(target / name) for name in sealed.files})
        if named:
            self._point(sealed.name, sealed.digest)
        return self.resolve(sealed.digest)

    def _is_whole(self, digest: str) -> bool:
        """True if the same content is there already: it stays, because machines may be made of it."""
        try:
            self.resolve(digest)
        except ImageError:
            return False
        return True

    def with_facts(self, stage: Path, image: Image, facts: Mapping[str, Any]) -> Image:
        """The same image with what its first boots have shown, under its new digest, which gets the name.

        Call it within `stage`. The old one is removed if no machine can have been made of it for a pool."""
        files = stage / "with-facts"
        files.mkdir()
        for name in ImageFile:
            os.link(self._directory / image.manifest.digest / name, files / name)
        fresh = self.commit(files, image.manifest.model_copy(update=dict(facts)))
        if image.manifest.info is None and fresh.manifest.digest != image.manifest.digest:
            shutil.rmtree(self._directory / image.manifest.digest)
        return fresh

    async def prune(self, in_use: Collection[str] = ()) -> list[str]:
        """Remove images that no name points to and that no machine uses. Takes and gives digests."""
        async with self._locked(silent):
            self._sweep_stages()
            kept = {*in_use, *self.names().values()}
            pruned = [digest for digest in self._digests() if digest not in kept]
            for digest in pruned:
                shutil.rmtree(self._directory / digest)
        return pruned

    async def forget(self, name: str) -> None:
        """Take away a name, so that its image can be pruned. Raises `ImageMissing`."""
        if name not in self.names():
            raise ImageMissing(f"there is no image named {name!r}", remedy="See `firerunner image list`")
        async with self._locked(silent):
            (self._directory / "names" / name).unlink()

    # Parts

    def _find(self, reference: str) -> str:
        if _DIGEST.fullmatch(reference) and (self._directory / reference).is_dir():
            return reference
        names = self.names()
        if _NAME.fullmatch(reference) and reference in names:
            return names[reference]
        if _DIGEST_PREFIX.fullmatch(reference) and self._directory.is_dir():
            found = [entry.name for entry in self._directory.iterdir() if entry.name.startswith(reference)]
            if len(found) == 1:
                return found[0]
            if len(found) > 1:
                raise ImageMissing(
                    f"{reference} is the start of {len(found)} digests", remedy="Give more digits"
                )
        known = ", ".join(names) or "none"
        raise ImageMissing(
            f"there is no image {reference!r} in {self._directory} (names: {known})",
            remedy="Build it with `firerunner image build`",
        )

    def _manifest(self, digest: str) -> Manifest:
        path = self._directory / digest / _MANIFEST
        try:
            manifest = read_manifest(path.read_bytes(), str(path))
        except FileNotFoundError as error:
            raise ImageMissing(f"image {digest} has no {path}", remedy="Build it again") from error
        if not manifest.digest == manifest.content_digest() == digest:
            raise DigestMismatch(f"{path} is not what its digest says", remedy="Build the image again")
        return manifest

    def _known_stamps(self, directory: Path) -> dict[str, list[int]]:
        if directory not in self._verified:
            try:
                self._verified[directory] = dict(json.loads((directory / _VERIFIED).read_bytes()))
            except (OSError, ValueError, TypeError):
                self._verified[directory] = {}
        return self._verified[directory]

    def _remember(self, directory: Path, stamps: dict[str, list[int]]) -> None:
        self._verified[directory] = stamps
        with contextlib.suppress(PermissionError):  # a reader without write access checks once per process
            _replace(directory / _VERIFIED, json.dumps(stamps).encode())

    @staticmethod
    def _stamp(path: Path) -> list[int]:
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise DigestMismatch(f"{path} is missing", remedy="Build the image again") from error
        return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]

    def name(self, image: Image) -> None:
        """Point the image's name to it."""
        if self.names().get(image.manifest.name) != image.manifest.digest:
            self._point(image.manifest.name, image.manifest.digest)

    def _point(self, name: str, digest: str) -> None:
        links = self._directory / "names"
        links.mkdir(exist_ok=True)
        fresh = links / f".{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("..") / digest)
        fresh.replace(links / name)

    def _new_stage(self) -> Path:
        stage = Path(tempfile.mkdtemp(prefix=_STAGE_PREFIX, dir=self._directory))
        stage.chmod(0o755)
        return stage

    def _sweep_stages(self) -> None:
        """What a killed build left. Called under the lock, so no build is running."""
        for stage in self._directory.glob(f"{_STAGE_PREFIX}*"):
            shutil.rmtree(stage, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def _locked(self, progress: Progress) -> AsyncIterator[None]:
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o755)
            lock = os.open(self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ImageError(
                f"{self._directory} cannot be written: {error.strerror}",
                remedy="Choose another state directory",
            ) from error
        try:
            said = False
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not said:
                        progress("wait", "another build is running")
                    said = True
                    await asyncio.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(lock)


def _stamps(directory: Path) -> Stamps:
    found: list[tuple[int, int, int, int] | None] = []
    for name in (*ImageFile, _MANIFEST, _PUBLISHED):
        try:
            status = os.stat(f"{directory}/{name}")  # noqa: PTH116  (this is done for each ask)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


def file_facts(path: Path) -> FileFacts:
    """Digest and size of a file."""
    with path.open("rb") as stream:
        return FileFacts(sha256=hashlib.file_digest(stream, "sha256").hexdigest(), size=path.stat().st_size)


def _check(path: Path, facts: FileFacts) -> None:
    seen = file_facts(path)
    if seen != facts:
        raise DigestMismatch(
            f"{path} is not what its manifest says: {seen.size} bytes, SHA-256 {seen.sha256[:12]}…, "
            f"expected {facts.size} bytes, {facts.sha256[:12]}…",
            remedy="Build the image again; if nobody changed it on purpose, look for a failing disk",
        )


def _published(path: Path) -> Published | None:
    try:
        return Published(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ImageError(f"{path} cannot be read: {error}", remedy="Push the image again") from error


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.replace(path)


def _flush(directory: Path) -> None:
    """Bring files to the disk before a rename makes them visible."""
    for path in (*directory.iterdir(), directory):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
