"""An image as an OCI layout: one layer for each of its files, so that unchanged files are stored once.

Each layer is a tar with one file in it; unpacked by any tool (umoci, containerd) they give `kernel`,
`initramfs`, `root` and `manifest.json` in one directory. Sources: OCI image-spec (image-layout.md,
manifest.md, layer.md). The same image always gives the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from firerunner.errors import ImageError
from firerunner.images.manifest import ImageFile, Manifest
from firerunner.images.progress import Progress, silent

MANIFEST_FILE: Final = "manifest.json"
FILES: Final = (*(name.value for name in ImageFile), MANIFEST_FILE)
TAG: Final = "image"

_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_CHUNK: Final = 1 << 20
_MANIFEST_BYTES: Final = 1 << 20
_REMEDY: Final = "It was not made by `firerunner image push`, or not by this version"


def write_layout(image: Path, manifest: Manifest, layout: Path, progress: Progress = silent) -> None:
    """Write the image in the directory `image` (as the store keeps it) into the new directory `layout`."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    layers, diffs = [], []
    for number, name in enumerate(FILES):
        progress("pack", f"packing {name}", number / len(FILES))
        layer, diff = _write_layer(image / name, name, blobs)
        layers.append(layer)
        diffs.append(diff)
    config = {
        "architecture": manifest.architecture,
        "os": "linux",
        "config": {"Labels": {"org.opencontainers.image.title": f"FireRunner image {manifest.name}"}},
        "rootfs": {"type": "layers", "diff_ids": diffs},
    }
    described = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST_TYPE,
        "config": _write_blob(json.dumps(config).encode(), blobs, _CONFIG_TYPE),
        "layers": layers,
        "annotations": {"org.firerunner.digest": manifest.digest, "org.firerunner.name": manifest.name},
    }
    pointer = _write_blob(json.dumps(described).encode(), blobs, _MANIFEST_TYPE)
    pointer["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [pointer]}))


def read_layout(layout: Path, target: Path, progress: Progress = silent) -> Manifest:
    """Unpack a layout into the new directory `target`; the image's manifest, whose files are not yet checked.

    Raises `ImageError` if it is anything else than an image of ours for this architecture.
    """
    index = _json(layout / "index.json")
    try:
        described = _blob(layout, index["manifests"][0]["digest"])
        layers = [str(layer["digest"]) for layer in described["layers"]]
    except (KeyError, IndexError, TypeError) as error:
        raise ImageError("what was pulled is not an OCI image", remedy=_REMEDY) from error
    if len(layers) != len(FILES):
        raise ImageError(
            f"what was pulled has {len(layers)} layers, {len(FILES)} are expected", remedy=_REMEDY
        )
    target.mkdir()
    for number, (digest, name) in enumerate(zip(layers, FILES, strict=True)):
        progress("unpack", f"unpacking {name}", number / len(FILES))
        _read_layer(_blob_path(layout, digest), name, target)
    path = target / MANIFEST_FILE
    if path.stat().st_size > _MANIFEST_BYTES:
        raise ImageError("the image's manifest is too large", remedy=_REMEDY)
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise ImageError(f"the image's manifest cannot be read: {error}", remedy=_REMEDY) from error
    if manifest.digest != manifest.content_digest():
        raise ImageError("the image's manifest is not what its digest says", remedy="Push the image again")
    path.unlink()
    return manifest


def _write_layer(path: Path, name: str, blobs: Path) -> tuple[dict[str, Any], str]:
    fresh = blobs / "fresh"
    with fresh.open("wb") as raw, gzip.GzipFile("", "wb", compresslevel=1, fileobj=raw, mtime=0) as packed:
        plain = _Hashing(packed)
        with tarfile.open(fileobj=cast(BinaryIO, plain), mode="w|", format=tarfile.USTAR_FORMAT) as tar:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                tar.addfile(entry, content)
    return _keep(fresh, blobs, _LAYER_TYPE), f"sha256:{plain.digest.hexdigest()}"


class _Hashing:
    """Passes writes on and knows their digest."""

    def __init__(self, inner: gzip.GzipFile) -> None:
        self._inner = inner
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._inner.write(data)


def _write_blob(content: bytes, blobs: Path, media_type: str) -> dict[str, Any]:
    fresh = blobs / "fresh"
    fresh.write_bytes(content)
    return _keep(fresh, blobs, media_type)


def _keep(fresh: Path, blobs: Path, media_type: str) -> dict[str, Any]:
    with fresh.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    size = fresh.stat().st_size
    fresh.rename(blobs / digest)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size}


def _read_layer(blob: Path, name: str, target: Path) -> None:
    try:
        with tarfile.open(blob, mode="r|gz") as tar:
            entry = tar.next()
            if entry is None or entry.name != name or not entry.isreg():
                raise ImageError(f"a layer does not hold {name}", remedy=_REMEDY)
            content = tar.extractfile(entry)
            with (target / name).open("wb") as file:
                while content is not None and (chunk := content.read(_CHUNK)):
                    # Root file systems are sparse; what is empty stays a hole.
                    if chunk.count(0) == len(chunk):
                        file.seek(len(chunk), 1)
                    else:
                        file.write(chunk)
                file.truncate()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ImageError(f"the layer of {name} cannot be unpacked: {error}", remedy=_REMEDY) from error


def _blob(layout: Path, digest: str) -> dict[str, Any]:
    return _json(_blob_path(layout, digest))


def _blob_path(layout: Path, digest: str) -> Path:
    kind, _, value = digest.partition(":")
    if kind != "sha256" or len(value) != 64 or not value.isalnum():
        raise ImageError(f"{digest!r} is not a digest", remedy=_REMEDY)
    return layout / "blobs/sha256" / value


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ImageError(f"what was pulled cannot be read: {error}", remedy=_REMEDY) from error
    return content if isinstance(content, dict) else {}
