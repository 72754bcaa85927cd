"""An image goes to a registry and comes back: by TLS, with a password, by digest, and it still boots."""

from __future__ import annotations

import asyncio
import base64
import json
import os
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
from firerunner.images.manifest import Manifest
from firerunner.images.store import file_facts
from firerunner.machines.qemu import QemuDriver
from tests.certificates import authority
from tests.e2e.registry import Registry, program, registry

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]

AUTH = base64.b64encode(b"pusher:s3cret").decode()


@pytest.fixture
async def image() -> Image:
    return await build(demo_recipe(None), Store(cache_dir() / "images"))


def firerunner(*arguments: str | Path) -> str:
    """The command's output; fails the test with it if the command fails."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.stdout


async def test_there_and_back(tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    trusted = authority(tmp_path)
    chain, key = trusted.server(tmp_path, ["127.0.0.1"])
    (tmp_path / "htpasswd").write_text(await bcrypted("pusher", "s3cret"))
    (tmp_path / "password").write_text("s3cret\n")
    trust = ["--ca-file", trusted.file]
    access = ["--username", "pusher", "--password-file", tmp_path / "password", *trust]
    ours, theirs = cache_dir() / "images", tmp_path / "images"
    async with registry(
        tmp_path / "registry", certificate=chain, key=key, htpasswd=tmp_path / "htpasswd"
    ) as shelf:
        place = f"{shelf.address}/ci/firerunner"
        digest = image.manifest.digest
        pushed = await in_thread(
            firerunner,
            "image",
            "push",
            f"{place}:demo",
            "--image",
            digest,
            *access,
            "--store",
            ours,
            "--json",
        )
        found = json.loads(pushed)
        by_digest = found["image"]
        # As `docker login` leaves it.
        home = tmp_path / "home"
        (home / ".docker").mkdir(parents=True)
        (home / ".docker/config.json").write_text(json.dumps({"auths": {shelf.address: {"auth": AUTH}}}))
        monkeypatch.setenv("HOME", str(home))
        await in_thread(firerunner, "image", "pull", by_digest, "--name", "pulled", *trust, "--store", theirs)
        await unpacked_by_others(tmp_path, shelf, trusted.file, image)
        with pytest.raises(ImageError, match="the root of an image alone") as raised:
            await pull(Store(tmp_path / "refused"), found["root"], Way(ca_file=trusted.file))
        (home / ".docker/config.json").unlink()
        with pytest.raises(ImageError, match="authentication required"):
            await pull(Store(tmp_path / "refused"), f"{place}:demo", Way(ca_file=trusted.file))
        with pytest.raises(ImageError, match="certificate signed by unknown authority"):
            await pull(Store(tmp_path / "refused"), f"{place}:demo", Way("pusher", "s3cret"))

    assert "no -root at its end" in raised.value.remedy
    assert [path.name for path in (tmp_path / "refused").iterdir()] == [".lock"]
    assert by_digest.startswith(f"{place}@sha256:")
    pulled = Store(theirs).resolve("pulled")
    assert pulled.manifest.files == image.manifest.files
    await boots(tmp_path, theirs, pulled)


async def unpacked_by_others(tmp_path: Path, shelf: Registry, ca_file: Path, image: Image) -> None:
    """skopeo and umoci know nothing of us, and find the same files, and the root's tree."""
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "ca.crt").write_bytes(ca_file.read_bytes())

    async def unpacked(tag: str) -> Path:
        layout, bundle = tmp_path / f"layout-{tag}", tmp_path / f"bundle-{tag}"
        await program(
            *("skopeo", "--insecure-policy", "copy", f"--src-cert-dir={certificates}"),
            *(
                "--src-creds=pusher:s3cret",
                f"docker://{shelf.address}/ci/firerunner:{tag}",
                f"oci:{layout}:x",
            ),
        )
        rootless = () if os.geteuid() == 0 else ("--rootless",)
        await program("umoci", "unpack", *rootless, "--image", f"{layout}:x", bundle)
        return bundle / "rootfs"

    whole = await unpacked("demo")
    manifest = Manifest.model_validate_json((whole / "manifest.json").read_bytes())
    assert manifest == image.manifest
    assert {name: file_facts(whole / name) for name in ImageFile} == dict(manifest.files)
    kernel = await unpacked("demo-kernel")
    assert sorted(path.name for path in kernel.iterdir()) == ["initramfs", "kernel"]
    assert file_facts(kernel / "kernel") == manifest.files[ImageFile.KERNEL]
    root = await unpacked("demo-root")
    assert "ID=debian" in (root / "etc/os-release").read_text()
    assert (root / "usr/bin/su").stat().st_mode & 0o7777 == 0o4755
    assert file_facts(root / "usr/local/bin/gitlab-runner").sha256 == manifest.runner.sha256


async def boots(tmp_path: Path, directory: Path, image: Image) -> None:
    driver = QemuDriver(tmp_path / "state")
    try:
        store = Store(directory)
        async with store.stage() as stage:
            recorded = await record_info(image, store, stage, driver)
    finally:
        await driver.aclose()
    assert recorded.manifest.info == image.manifest.info


async def in_thread(call: Callable[..., str], *arguments: str | Path) -> str:
    """The commands run an event loop of their own."""
    return await asyncio.to_thread(call, *arguments)


async def bcrypted(user: str, password: str) -> str:
    """A line of an htpasswd file; the registry takes bcrypt only."""
    return await program("htpasswd", "-Bbn", user, password)
