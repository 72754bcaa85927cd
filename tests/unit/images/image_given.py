"""What the tests of images start from."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from firerunner.images import ImageFile, Manifest, RunnerFacts, RunnerKind, RunnerSource, Store
from firerunner.images.store import Image, file_facts

ZEROS, ONES = "0" * 64, "1" * 64


def manifest_of(files: Path, name: str = "demo", kernel_version: str = "6.1") -> Manifest:
    return Manifest(
        name=name,
        kernel_version=kernel_version,
        files={part: file_facts(files / part) for part in ImageFile},
        runner=RunnerFacts(kind=RunnerKind.STAND_IN, version="1", sha256=ZEROS),
        production=False,
        recipe_digest=ZEROS,
        root_digest=ONES,
        built_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def fill(files: Path, content: str = "content") -> None:
    files.mkdir()
    for part in ImageFile:
        (files / part).write_text(f"{part} {content}")


async def stored(store: Store, name: str = "demo", content: str = "content") -> Image:
    async with store.stage() as stage:
        fill(stage / "image", content)
        return store.commit(stage / "image", manifest_of(stage / "image", name))


def runner_source(kind: RunnerKind = RunnerKind.OFFICIAL, sha256: str = ZEROS) -> RunnerSource:
    return RunnerSource(kind, Path("/nowhere/gitlab-runner"), "19.4.0", sha256)
