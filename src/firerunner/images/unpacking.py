"""Takes an image out of an OCI layout that was pulled: nothing in it is believed before it is checked."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any, Final

from firerunner.errors import ImageError
from firerunner.images.layout import FILES, MANIFEST_FILE, PART, Part
from firerunner.images.manifest import ImageFile, Manifest, read_manifest
from firerunner.images.progress import Progress, silent

_ARCHITECTURE: Final = "amd64"
_CHUNK: Final = 1 << 20
_MANIFEST_BYTES: Final = 1 << 20
_REMEDY: Final = "It was not made by `firerunner image push`, or not by this version"


def read_layout(layout: Path, target: Path, progress: Progress = silent) -> Manifest:
    """Unpack a layout into the new directory `target`; the image's manifest, by which the caller still has
    to check the files' digests.

    The blobs' digests are the puller's to check (skopeo does). Raises `ImageError` if it is anything else
    than a whole image of ours for this architecture; no file gets larger than the manifest says.
    """
    layers = _layers(layout)
    target.mkdir()
    manifest = _manifest(layers[MANIFEST_FILE], target)
    for number, name in enumerate(ImageFile):
        progress("unpack", f"unpacking {name}", number / len(ImageFile))
        facts = manifest.files.get(name)
        if facts is None:
            raise ImageError(f"the image's manifest knows no {name}", remedy=_REMEDY)
        _unpack(layers[name.value], name.value, target, facts.size)
    return manifest


def _layers(layout: Path) -> dict[str, Path]:
    """The blob of each file."""
    index = _json(layout / "index.json")
    try:
        described = _json(_blob(layout, index["manifests"][0]["digest"]))
        config = _json(_blob(layout, described["config"]["digest"]))
        blobs = [_blob(layout, layer["digest"]) for layer in described["layers"]]
        part = described.get("annotations", {}).get(PART)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ImageError("what was pulled is not an OCI image", remedy=_REMEDY) from error
    if part in {Part.KERNEL, Part.ROOT}:
        raise ImageError(
            f"what was pulled is the {part} of an image alone",
            remedy=f"Pull the tag that has no -{part} at its end",
        )
    if part != Part.IMAGE or len(blobs) != len(FILES):
        raise ImageError("what was pulled is not an image of FireRunner", remedy=_REMEDY)
    if config.get("architecture") != _ARCHITECTURE:
        raise ImageError(
            f"what was pulled is for {config.get('architecture')}, not for {_ARCHITECTURE}",
            remedy="Pull an image that was built for this architecture",
        )
    return dict(zip(FILES, blobs, strict=True))


def _manifest(blob: Path, target: Path) -> Manifest:
    _unpack(blob, MANIFEST_FILE, target, None)
    path = target / MANIFEST_FILE
    manifest = read_manifest(path.read_bytes(), "what was pulled")
    if manifest.digest != manifest.content_digest():
        raise ImageError("the image's manifest is not what its digest says", remedy="Push the image again")
    path.unlink()
    return manifest


def _unpack(blob: Path, name: str, target: Path, size: int | None) -> None:
    """`size`: what the file must have, in bytes; None: what is usual for a manifest, at most."""
    try:
        with tarfile.open(blob, mode="r|gz") as tar:
            entry = tar.next()
            if entry is None or entry.name != name or not entry.isreg():
                raise ImageError(f"a layer does not hold {name}", remedy=_REMEDY)
            if entry.size > _MANIFEST_BYTES if size is None else entry.size != size:
                raise ImageError(f"{name} in the layer has {entry.size} bytes, not {size}", remedy=_REMEDY)
            _write(tar, entry, target / name)
    except (tarfile.TarError, OSError, EOFError) as error:
        full = "No space left" in str(error)
        raise ImageError(
            f"{name} cannot be unpacked: {error}",
            remedy="Free some space, or use another state directory" if full else _REMEDY,
        ) from error


def _write(tar: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> None:
    content = tar.extractfile(entry)
    with path.open("wb") as file:
        while content is not None and (chunk := content.read(_CHUNK)):
            # Root file systems are sparse; what is empty stays a hole.
            if chunk.count(0) == len(chunk):
                file.seek(len(chunk), 1)
            else:
                file.write(chunk)
        file.truncate()


def _blob(layout: Path, digest: object) -> Path:
    kind, _, value = str(digest).partition(":")
    if kind != "sha256" or len(value) != 64 or not value.isalnum():
        raise ImageError(f"{digest!r} is not a digest", remedy=_REMEDY)
    return layout / "blobs/sha256" / value


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ImageError(f"what was pulled cannot be read: {error}", remedy=_REMEDY) from error
    return content if isinstance(content, dict) else {}
