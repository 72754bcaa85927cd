"""An image as three OCI images in one layout: all of it, the kernel's files, and the root's tree.

`image` has one layer for each of our files, so that unchanged files are stored once; that is what `pull`
takes. `kernel` is two of these layers, and `root` has the root file system's tree as its one layer: what
containerd unpacks for hosts that make machines of it, and what `docker run` can be tried with. Sources: OCI
image-spec (image-layout.md, manifest.md, layer.md). The same image always gives the same bytes.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from firerunner.images.manifest import ImageFile, Manifest
from firerunner.images.progress import Progress, silent
from firerunner.images.tree import read_tree

MANIFEST_FILE: Final = "manifest.json"
FILES: Final = (*(name.value for name in ImageFile), MANIFEST_FILE)
PART: Final = "org.firerunner.part"
"""The annotation that tells which of the three an OCI image is."""

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE: Final = "application/vnd.firerunner.image.v1"
_CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Part(StrEnum):
    """The OCI images of an image, by their names in a layout."""

    IMAGE = "image"  # kernel, initramfs, root (ext4) and manifest.json, as files
    KERNEL = "kernel"  # kernel and initramfs, as files
    ROOT = "root"  # the tree of the root file system


@dataclass(frozen=True, slots=True)
class _Layer:
    descriptor: dict[str, Any]
    diff_id: str


async def write_layout(
    image: Path, manifest: Manifest, layout: Path, work: Path, progress: Progress = silent
) -> None:
    """Write the image in the directory `image` (as the store keeps it) into the new directory `layout`.

    `work` is a directory for what is in between; the caller removes it. Raises `ImageError`.
    """
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    steps = len(FILES) + 1
    layers = {}
    for number, name in enumerate(FILES):
        progress("pack", f"packing {name}", number / steps)
        layers[name] = await asyncio.to_thread(_file_layer, image / name, name, blobs)
    progress("pack", "packing the tree of the root file system", len(FILES) / steps)
    tree = await read_tree(image / ImageFile.ROOT, work)
    built_at_s = int(manifest.built_at.timestamp())
    root = await asyncio.to_thread(_layer, lambda tar: tree.add_to(tar, built_at_s), blobs)
    parts = {
        Part.IMAGE: [layers[name] for name in FILES],
        Part.KERNEL: [layers[ImageFile.KERNEL], layers[ImageFile.INITRAMFS]],
        Part.ROOT: [root],
    }
    pointers = [_describe(part, manifest, found, blobs) for part, found in parts.items()]
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": pointers}))


def _describe(part: Part, manifest: Manifest, layers: list[_Layer], blobs: Path) -> dict[str, Any]:
    """Write config and manifest of one of the three; its entry in the layout's index."""
    config = {
        "architecture": manifest.architecture,
        "os": "linux",
        "config": {"Env": [_PATH], "Cmd": ["/bin/bash"]} if part is Part.ROOT else {},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    described = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        **({"artifactType": ARTIFACT_TYPE} if part is Part.IMAGE else {}),
        "config": _blob(json.dumps(config).encode(), blobs, _CONFIG_TYPE),
        "layers": [layer.descriptor for layer in layers],
        "annotations": {
            PART: part.value,
            "org.firerunner.digest": manifest.digest,
            "org.firerunner.name": manifest.name,
            "org.opencontainers.image.title": f"FireRunner {part} {manifest.name}",
        },
    }
    pointer = _blob(json.dumps(described).encode(), blobs, MANIFEST_TYPE)
    pointer["annotations"] = {"org.opencontainers.image.ref.name": part.value}
    return pointer


def _file_layer(path: Path, name: str, blobs: Path) -> _Layer:
    def add(tar: tarfile.TarFile) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = path.stat().st_size, 0o644
        with path.open("rb") as content:
            tar.addfile(entry, content)

    return _layer(add, blobs)


def _layer(add: Callable[[tarfile.TarFile], None], blobs: Path) -> _Layer:
    fresh = blobs / "fresh"
    with fresh.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
        plain = _Hashing(packed)
        with tarfile.open(fileobj=cast(BinaryIO, plain), mode="w|", format=tarfile.PAX_FORMAT) as tar:
            add(tar)
    return _Layer(_keep(fresh, blobs, _LAYER_TYPE), f"sha256:{plain.digest.hexdigest()}")


class _Hashing:
    """Passes writes on and knows their digest."""

    def __init__(self, inner: gzip.GzipFile) -> None:
        self._inner = inner
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._inner.write(data)


def _blob(content: bytes, blobs: Path, media_type: str) -> dict[str, Any]:
    fresh = blobs / "fresh"
    fresh.write_bytes(content)
    return _keep(fresh, blobs, media_type)


def _keep(fresh: Path, blobs: Path, media_type: str) -> dict[str, Any]:
    with fresh.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    size = fresh.stat().st_size
    fresh.rename(blobs / digest)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}
