"""An image is built as image.yaml says, booted, kept, and runs a job; an interrupted build leaves nothing.

The runner comes from a release address on loopback: the official one if FIRERUNNER_GITLAB_RUNNER names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from firerunner.building import build
from firerunner.cli.main import app
from firerunner.errors import DigestMismatch
from firerunner.images import Image, Recipe, Store, build_image, stand_in_runner
from firerunner.images.declaration import read_declaration
from firerunner.images.declared import recipe_of
from tests.e2e.lab import lab
from tests.e2e.vendor import package_repository, runner_release, web
from tests.openpgp import Signer, signer

pytestmark = [pytest.mark.anyio, pytest.mark.vm, pytest.mark.timeout(600)]

RUNNER = os.environ.get("FIRERUNNER_GITLAB_RUNNER")

CI = """
stages: [test]
look:
  stage: test
  script:
    - vendor-tool
    - hello
    - stat -c '%U:%G %a' /etc/vendor.conf
    - cat /etc/made-by-run
    - echo "$GREETING"
    - grep -r 'signed-by=/etc/apt/keyrings/' /etc/apt/sources.list
"""


class Steps:
    """Remembers progress; `reached` is set when a message holds the awaited text."""

    def __init__(self, awaited: str = "") -> None:
        self.seen: list[tuple[str, str]] = []
        self.fractions: list[float] = []
        self.awaited = awaited
        self.reached = asyncio.Event()

    def __call__(self, step: str, message: str, fraction: float | None = None) -> None:
        self.seen.append((step, message))
        if fraction is not None:
            self.fractions.append(fraction)
        if self.awaited and self.awaited in message:
            self.reached.set()


@pytest.fixture
def vendor() -> Iterator[Signer]:
    with signer() as made:
        yield made


def declared(directory: Path, packages: str, releases: str) -> Path:
    """An image.yaml with nearly everything in it."""
    (directory / "vendor.conf").write_text("a=b\n")
    described = {
        "name": "e2e",
        "packages": ["vendor-tool"],
        "apt": [{"uri": packages, "suite": "./", "key": "vendor.asc"}],
        "files": [
            {
                "source": "vendor.conf",
                "destination": "/etc/vendor.conf",
                "mode": "0640",
                "owner": "builder:tty",
            }
        ],
        "environment": {"GREETING": "hello from $HOME, 'as it is'"},
        "run": [
            "useradd builder; apt-get install --yes --quiet hello",
            'echo "$(vendor-tool), as $(id -un)" > /etc/made-by-run',
        ],
        "runner": {"version": "v19.4.0", "releases": releases, "key": "vendor.asc"},
        "production": RUNNER is not None,
    }
    path = directory / "image.yaml"
    path.write_text(yaml.safe_dump(described))
    return path


async def released(directory: Path, vendor: Signer) -> None:
    binary = Path(RUNNER) if RUNNER else (await stand_in_runner(directory)).path
    runner_release(directory / "releases", "v19.4.0", binary, vendor)


def commands_naming(path: Path) -> list[str]:
    """The command lines of all processes that name a path."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if str(path) in line]


async def test_an_image_is_built_booted_recorded_kept_and_used(
    tmp_path: Path, vendor: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FIRERUNNER_GITLAB_RUNNER", raising=False)
    (tmp_path / "vendor.asc").write_bytes(vendor.public_key())
    await released(tmp_path, vendor)
    package_repository(tmp_path / "packages", vendor)
    store, steps = Store(tmp_path / "images"), Steps()
    async with web(tmp_path / "packages") as packages, web(tmp_path / "releases") as releases:
        file = declared(tmp_path, packages, releases)
        declaration = read_declaration(file)
        image = await build(recipe_of(declaration), store, wish=declaration.runner.wish, progress=steps)
    again = await asyncio.to_thread(image_build, file, tmp_path / "images")

    assert image.manifest.production is (RUNNER is not None)
    assert image.manifest.info is not None
    assert image.manifest.info["version"] == image.manifest.runner.version
    assert image.manifest.boot is not None
    assert image.manifest.boot.seconds > 0
    assert image.files.kernel.read_bytes()[:4] == b"\x7fELF"
    assert list(dict(steps.seen)) == [
        *("runner", "packages", "kernel", "initramfs", "root", "digest", "record", "done")
    ]
    assert steps.fractions == sorted(steps.fractions)
    assert [manifest.digest for manifest in store.manifests()] == [image.manifest.digest]
    assert f"image e2e = {image.manifest.digest[:12]}" in again
    await used(tmp_path / "images", image)

    with image.files.root.open("r+b") as root:
        root.seek(1 << 20)
        root.write(b"changed")
    with pytest.raises(DigestMismatch, match="/root is not what"):
        store.resolve("e2e")


def image_build(file: Path, store: Path) -> str:
    """What the command says; nothing is served any more, so it must not need anything."""
    result = CliRunner().invoke(app, ["image", "build", "--file", str(file), "--store", str(store)])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.stdout


async def used(store: Path, image: Image) -> None:
    """A job finds what image.yaml has put in."""
    async with lab(store, image.manifest.digest, {".gitlab-ci.yml": CI}) as it:
        job = await it.run("look")
        trace = it.trace(job)
    assert job.status == "success", trace
    assert "the vendor was here\n" in trace
    assert "Hello, world!" in trace
    assert "builder:tty 640" in trace
    assert "the vendor was here, as root" in trace
    assert "hello from $HOME, 'as it is'" in trace
    assert "signed-by=/etc/apt/keyrings/firerunner-0.gpg] http://127.0.0.1" in trace


@pytest.mark.parametrize("moment", ["fetching linux-image", "extracting archives"])
async def test_an_interrupted_build_leaves_nothing(tmp_path: Path, moment: str) -> None:
    steps = Steps(moment)
    runner = await stand_in_runner(tmp_path)
    store = Store(tmp_path / "images")
    task = asyncio.create_task(build_image(Recipe("e2e"), store, runner, progress=steps))
    await steps.reached.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [path.name for path in (tmp_path / "images").iterdir()] == [".lock"]
    assert commands_naming(tmp_path / "images") == []
