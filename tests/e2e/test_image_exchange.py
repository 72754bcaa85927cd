"""An image goes to a registry and comes back: by TLS, with a password, by digest, and it still boots."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firerunner.building import build
from firerunner.cli.main import app
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.errors import ImageError
from firerunner.images import Image, ImageFile, Store, record_info
from firerunner.images.exchange import Way, pull
from firerunner.images.layout import FILES, write_layout
from firerunner.images.manifest import Manifest
from firerunner.machines.qemu import QemuDriver
from tests.certificates import authority
from tests.e2e.registry import Registry, program, registry

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.fixture
async def image() -> Image:
    return await build(demo_recipe(None), Store(cache_dir() / "images"))


def firerunner(*arguments: str | Path) -> str:
    """The command's output; fails the test with it if the command fails."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.stdout


async def test_there_and_back(tmp_path: Path, image: Image) -> None:
    trusted = authority(tmp_path)
    chain, key = trusted.server(tmp_path, ["127.0.0.1"])
    (tmp_path / "htpasswd").write_text(await bcrypted("pusher", "s3cret"))
    (tmp_path / "password").write_text("s3cret\n")
    access = [
        *("--username", "pusher", "--password-file", tmp_path / "password"),
        *("--ca-file", trusted.file),
    ]
    ours, theirs = cache_dir() / "images", tmp_path / "images"
    async with registry(
        tmp_path / "registry", certificate=chain, key=key, htpasswd=tmp_path / "htpasswd"
    ) as shelf:
        place = f"{shelf.address}/ci/firerunner"
        digest = image.manifest.digest
        pushed = await in_thread(
            firerunner, "image", "push", f"{place}:demo", "--image", digest, *access, "--store", ours
        )
        by_digest = pushed.split()[-1]
        await in_thread(
            firerunner, "image", "pull", by_digest, "--name", "pulled", *access, "--store", theirs
        )
        await unpacked_by_others(tmp_path, shelf, trusted.file, image)
        with pytest.raises(ImageError, match="skopeo"):
            await pull(Store(theirs), f"{place}:demo", Way(ca_file=trusted.file))

    assert by_digest.startswith(f"{place}@sha256:")
    pulled = Store(theirs).resolve("pulled")
    assert pulled.manifest.files == image.manifest.files
    await boots(tmp_path, theirs, pulled)


async def unpacked_by_others(tmp_path: Path, shelf: Registry, ca_file: Path, image: Image) -> None:
    """skopeo and umoci know nothing of us, and find the same files."""
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "ca.crt").write_bytes(ca_file.read_bytes())
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    await program(
        *("skopeo", "--insecure-policy", "copy", f"--src-cert-dir={certificates}"),
        *("--src-creds=pusher:s3cret", f"docker://{shelf.address}/ci/firerunner:demo", f"oci:{layout}:demo"),
    )
    await program("umoci", "unpack", "--rootless", "--image", f"{layout}:demo", bundle)
    manifest = Manifest.model_validate_json((bundle / "rootfs/manifest.json").read_bytes())
    assert manifest == image.manifest
    sizes = {name: (bundle / "rootfs" / name).stat().st_size for name in ImageFile}
    assert sizes == {name: facts.size for name, facts in manifest.files.items()}


async def boots(tmp_path: Path, directory: Path, image: Image) -> None:
    driver = QemuDriver(tmp_path / "state")
    try:
        recorded = await record_info(image, Store(directory), driver)
    finally:
        await driver.aclose()
    assert recorded.manifest.info == image.manifest.info


async def in_thread(call: Callable[..., str], *arguments: str | Path) -> str:
    """The commands run an event loop of their own."""
    return await asyncio.to_thread(call, *arguments)


async def bcrypted(user: str, password: str) -> str:
    """A line of an htpasswd file; the registry takes bcrypt only."""
    return await program("htpasswd", "-Bbn", user, password)


def test_a_tar_of_one_file_is_what_others_unpack(tmp_path: Path) -> None:
    """The layers of a layout are what the OCI image specification says, in the order of the files."""
    image = tmp_path / "image"
    image.mkdir()
    for name in FILES:
        (image / name).write_text(name)
    manifest = Store(cache_dir() / "images").manifests()[0]
    write_layout(image, manifest, tmp_path / "layout")
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    blobs = tmp_path / "layout/blobs/sha256"
    described = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_bytes())
    names = []
    for layer in described["layers"]:
        with tarfile.open(blobs / layer["digest"][7:]) as tar:
            names += tar.getnames()
    assert names == list(FILES)
