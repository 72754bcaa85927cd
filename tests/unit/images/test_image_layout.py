"""An image becomes an OCI layout and comes out again; what is something else is refused."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from image_given import fill, manifest_of

from firerunner.errors import ImageError
from firerunner.images import ImageFile, Manifest
from firerunner.images.layout import ARTIFACT_TYPE, FILES, Part, write_layout
from firerunner.images.tree import read_tree
from firerunner.images.unpacking import read_layout

pytestmark = pytest.mark.anyio

Json = dict[str, Any]
ODD_NAME = "a name, of Főtanúsítvány"


async def ext4(tree: Path, image: Path) -> None:
    """The tree as a file system."""
    options = ("-q", "-F", "-E", f"root_owner={os.getuid()}:{os.getgid()}", "-N", "8192", "-d")
    await asyncio.to_thread(
        subprocess.run, ["/usr/sbin/mkfs.ext4", *options, tree, image, "16M"], check=True, capture_output=True
    )


def small_tree(tree: Path) -> Path:
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/su").write_text("a program\n")
    (tree / "usr/bin/su").chmod(0o4755)
    (tree / "usr/bin/zu").hardlink_to(tree / "usr/bin/su")
    (tree / "usr/bin" / ODD_NAME).write_text("")
    (tree / "link").symlink_to("/usr/bin/su")
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)
    return tree


@pytest.fixture
async def image(tmp_path: Path) -> tuple[Path, Manifest]:
    """A whole image with a small root, as the store keeps it."""
    files = tmp_path / "image"
    fill(files)
    await ext4(small_tree(tmp_path / "given"), files / ImageFile.ROOT)
    manifest = manifest_of(files).sealed()
    (files / "manifest.json").write_text(manifest.model_dump_json())
    return files, manifest


async def written(image: tuple[Path, Manifest], layout: Path) -> Path:
    work = layout.with_suffix(".work")
    work.mkdir()
    await write_layout(*image, layout, work)
    return layout


def blob(layout: Path, descriptor: Json) -> Path:
    return layout / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")


def described(layout: Path, part: Part) -> Json:
    index = json.loads((layout / "index.json").read_bytes())
    number = list(Part).index(part)
    assert index["manifests"][number]["annotations"]["org.opencontainers.image.ref.name"] == part
    found: Json = json.loads(blob(layout, index["manifests"][number]).read_bytes())
    return found


def put(layout: Path, content: bytes) -> Json:
    digest = hashlib.sha256(content).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


def layer(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue())


async def test_what_goes_in_comes_out(tmp_path: Path, image: tuple[Path, Manifest]) -> None:
    files, manifest = image
    layout = await written(image, tmp_path / "layout")

    assert read_layout(layout, tmp_path / "out") == manifest
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        name.value: (files / name).read_bytes() for name in ImageFile
    }


async def test_each_part_has_the_layers_that_others_expect(
    tmp_path: Path, image: tuple[Path, Manifest]
) -> None:
    layout = await written(image, tmp_path / "layout")
    whole, kernel, root = (described(layout, part) for part in Part)
    names = []
    for each in whole["layers"]:
        with tarfile.open(blob(layout, each)) as tar:
            names += tar.getnames()

    assert names == list(FILES)
    assert whole["artifactType"] == ARTIFACT_TYPE
    assert kernel["layers"] == whole["layers"][:2]
    for part in (whole, kernel, root):
        config = json.loads(blob(layout, part["config"]).read_bytes())
        plain = [gzip.decompress(blob(layout, each).read_bytes()) for each in part["layers"]]
        assert config["architecture"] == "amd64"
        assert config["rootfs"]["diff_ids"] == [
            f"sha256:{hashlib.sha256(each).hexdigest()}" for each in plain
        ]


async def test_the_root_comes_as_its_tree(tmp_path: Path, image: tuple[Path, Manifest]) -> None:
    layout = await written(image, tmp_path / "layout")
    (only,) = described(layout, Part.ROOT)["layers"]
    with tarfile.open(blob(layout, only)) as tar:
        found = {entry.name: entry for entry in tar}
        content = tar.extractfile("usr/bin/su")
        assert content is not None
        assert content.read() == b"a program\n"

    assert list(found) == ["link", "tmp", "usr", "usr/bin", f"usr/bin/{ODD_NAME}", "usr/bin/su", "usr/bin/zu"]
    assert found["usr/bin/su"].mode == 0o4755
    assert (found["usr/bin/su"].uid, found["usr/bin/su"].gid) == (os.getuid(), os.getgid())
    assert found["tmp"].mode == 0o1777
    assert (found["link"].issym(), found["link"].linkname) == (True, "/usr/bin/su")
    assert (found["usr/bin/zu"].islnk(), found["usr/bin/zu"].linkname) == (True, "usr/bin/su")
    assert found["usr/bin/su"].mtime == int((tmp_path / "given/usr/bin/su").stat().st_mtime)


async def test_the_same_image_gives_the_same_bytes(tmp_path: Path, image: tuple[Path, Manifest]) -> None:
    first, again = await written(image, tmp_path / "first"), await written(image, tmp_path / "again")

    assert (first / "index.json").read_bytes() == (again / "index.json").read_bytes()


async def test_no_name_is_lost_in_a_full_directory(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    for number in range(5200):
        (tmp_path / "given" / str(number)).touch()
    await ext4(tmp_path / "given", tmp_path / "root")

    tree = await read_tree(tmp_path / "root", tmp_path)

    assert len(tree.entries) == 5200


async def test_what_is_no_file_system_is_said(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(bytes(1 << 20))

    with pytest.raises(ImageError, match="holds no file system"):
        await read_tree(tmp_path / "root", tmp_path)


def drop_layer(layout: Path, whole: Json) -> None:
    whole["layers"].pop()


def other_architecture(layout: Path, whole: Json) -> None:
    whole["config"] = put(layout, b'{"architecture": "arm64"}')


def other_part(layout: Path, whole: Json) -> None:
    whole["annotations"]["org.firerunner.part"] = "kernel"


def no_annotations(layout: Path, whole: Json) -> None:
    del whole["annotations"]


def climbing_digest(layout: Path, whole: Json) -> None:
    whole["layers"][0]["digest"] = "sha256:" + "../" * 21 + "a"


def other_name(layout: Path, whole: Json) -> None:
    whole["layers"][0] = put(layout, layer("../kernel", b"x"))


def larger_file(layout: Path, whole: Json) -> None:
    whole["layers"][0] = put(layout, layer("kernel", b"x" * 100))


def no_archive(layout: Path, whole: Json) -> None:
    whole["layers"][0] = put(layout, b"no archive")


def no_manifest(layout: Path, whole: Json) -> None:
    whole["layers"][3] = put(layout, layer("manifest.json", b"{}"))


def changed_manifest(layout: Path, whole: Json) -> None:
    with tarfile.open(blob(layout, whole["layers"][3])) as tar:
        content = tar.extractfile("manifest.json")
        assert content is not None
        text = content.read().replace(b'"name":"demo"', b'"name":"evil"')
    whole["layers"][3] = put(layout, layer("manifest.json", text))


def older_manifest(layout: Path, whole: Json) -> None:
    whole["layers"][3] = put(layout, layer("manifest.json", b'{"schema_version": 1}'))


def huge_manifest(layout: Path, whole: Json) -> None:
    whole["layers"][3] = put(layout, layer("manifest.json", bytes(2 << 20)))


def missing_blob(layout: Path, whole: Json) -> None:
    blob(layout, whole["layers"][2]).unlink()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_layer, "not an image of FireRunner"),
        (no_annotations, "not an image of FireRunner"),
        (other_architecture, "for arm64, not for amd64"),
        (other_part, "the kernel of an image alone"),
        (climbing_digest, "is not a digest"),
        (other_name, "a layer does not hold kernel"),
        (larger_file, "kernel in the layer has 100 bytes"),
        (no_archive, "kernel cannot be unpacked"),
        (no_manifest, "what was pulled is not a manifest: name"),
        (changed_manifest, "not what its digest says"),
        (older_manifest, "a manifest of version 1, this FireRunner reads version 2"),
        (huge_manifest, "manifest.json in the layer has 2097152 bytes"),
        (missing_blob, "root cannot be unpacked"),
    ],
)
async def test_what_is_not_a_whole_image_of_ours_is_refused(
    tmp_path: Path, image: tuple[Path, Manifest], change: Callable[[Path, Json], None], said: str
) -> None:
    layout = await written(image, tmp_path / "layout")
    whole = described(layout, Part.IMAGE)
    change(layout, whole)
    pointer = put(layout, json.dumps(whole).encode())
    (layout / "index.json").write_text(json.dumps({"manifests": [pointer]}))

    with pytest.raises(ImageError, match=said):
        read_layout(layout, tmp_path / "out")


@pytest.mark.parametrize("index", ["{}", "[]", "no json", '{"manifests": []}', '{"manifests": [1]}'])
def test_what_is_no_layout_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "index.json").write_text(index)

    with pytest.raises(ImageError, match="what was pulled"):
        read_layout(tmp_path, tmp_path / "out")
