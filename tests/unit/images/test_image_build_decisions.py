"""What a build refuses, and what it does not do again."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from guest_driver import INFO, GuestDriver, asks
from image_given import fill, manifest_of, runner_source

from firerunner.errors import DigestMismatch, ImageError
from firerunner.guest.scripts import GuestScript
from firerunner.images import (
    Image,
    Recipe,
    RunnerFacts,
    RunnerKind,
    RunnerSource,
    Store,
    build_image,
    stored_image,
)
from firerunner.machines.spec import MachineSpec

pytestmark = pytest.mark.anyio

RECIPE, RUNNER = Recipe("demo"), runner_source()


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "images")


async def built(store: Store, runner: RunnerSource = RUNNER, info: dict[str, object] | None = None) -> Image:
    """An image in the store as if `RECIPE` had been built."""
    facts = {
        "recipe_digest": RECIPE.digest(runner),
        "root_digest": RECIPE.root_digest(runner),
        "runner": RunnerFacts(kind=runner.kind, version=runner.version, sha256=runner.sha256),
        "info": info,
    }
    async with store.stage() as stage:
        fill(stage / "image")
        return store.commit(stage / "image", manifest_of(stage / "image").model_copy(update=facts))


async def test_an_unchanged_recipe_is_not_built_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = await built(store)
    monkeypatch.setattr("firerunner.images.tools.search_path", lambda: "/nowhere")

    assert await build_image(RECIPE, store, RUNNER) == image


async def test_an_unchanged_recipe_whose_image_is_damaged_is_said(store: Store) -> None:
    image = await built(store)
    image.files.root.write_text("damaged")

    with pytest.raises(DigestMismatch, match="/root"):
        await build_image(RECIPE, store, RUNNER)


async def test_an_image_that_another_build_is_just_replacing_is_looked_at_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, resolve, looks = await built(store), store.resolve, []

    def vanishes(reference: str) -> Image:
        looks.append(reference)
        if len(looks) == 1:
            raise DigestMismatch("root is missing")
        return resolve(reference)

    monkeypatch.setattr(store, "resolve", vanishes)

    assert await build_image(RECIPE, store, RUNNER) == image
    assert len(looks) == 2


async def test_two_builds_at_once_boot_the_image_once(store: Store, tmp_path: Path) -> None:
    """The one that waited takes what the first one recorded: the image it saw before is gone."""
    bare = await built(store)
    driver = GuestDriver(asks)

    first, second = await asyncio.gather(
        *(build_image(RECIPE, Store(tmp_path / "images"), RUNNER, driver=driver) for _ in range(2))
    )

    assert first == second
    assert first.manifest.info == INFO
    assert len(driver.created) == 1
    assert not bare.files.root.exists()


async def test_an_image_that_is_being_recorded_is_not_pruned(store: Store, tmp_path: Path) -> None:
    """No name points to it yet, and no ledger knows of a machine that is made of it."""
    bare = await built(store)
    await store.forget("demo")
    booting, pruned = asyncio.Event(), asyncio.Event()

    async def asks_late(driver: GuestDriver, spec: MachineSpec) -> None:
        booting.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(pruned.wait(), 1)
        assert bare.files.kernel.exists()
        await asks(driver, spec)

    async def prune() -> list[str]:
        await booting.wait()
        gone = await Store(tmp_path / "images").prune()
        pruned.set()
        return gone

    image, gone = await asyncio.gather(
        build_image(RECIPE, store, RUNNER, driver=GuestDriver(asks_late)), prune()
    )

    assert gone == []
    assert store.resolve("demo") == image


@pytest.mark.parametrize(
    ("recipe", "again"),
    [(Recipe("demo", packages=("make",)), False), (Recipe("other"), False), (RECIPE, True)],
)
async def test_a_changed_recipe_is_built(
    store: Store, monkeypatch: pytest.MonkeyPatch, recipe: Recipe, again: bool
) -> None:
    await built(store)
    monkeypatch.setattr("firerunner.images.tools.search_path", lambda: "/nowhere")

    with pytest.raises(ImageError, match="programs are missing"):
        await build_image(recipe, store, RUNNER, again=again)


async def test_a_full_disk_is_said_before_anything_is_fetched(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100 << 20, 1 << 20, 99 << 20))

    with pytest.raises(ImageError, match="99 MiB free, a build needs 2048 MiB") as raised:
        await build_image(RECIPE, store, RUNNER)

    assert "Free some space" in raised.value.remedy
    assert [path.name for path in (tmp_path / "images").iterdir()] == [".lock"]


async def test_the_stand_in_gets_no_production_image(store: Store) -> None:
    with pytest.raises(ImageError, match="production"):
        await build_image(Recipe("demo", production=True), store, runner_source(RunnerKind.STAND_IN))

    assert store.manifests() == []


STAND_IN = runner_source(RunnerKind.STAND_IN, hashlib.sha256(GuestScript.STAND_IN.read()).hexdigest())


@pytest.mark.parametrize("runner", [RUNNER, STAND_IN])
async def test_a_finished_image_is_found_without_asking_for_a_runner(
    store: Store, runner: RunnerSource
) -> None:
    image = await built(store, runner, info={"features": {}})

    assert stored_image(RECIPE, store, version="v19.4.0") == image


async def test_an_image_is_not_finished_that_is_older_or_other_or_not_recorded(store: Store) -> None:
    await built(store, info={"features": {}})
    assert stored_image(RECIPE, store, version="v20.0.0") is None
    assert stored_image(Recipe("demo", packages=("make",)), store, version="v19.4.0") is None
    assert stored_image(Recipe("other"), store, version="v19.4.0") is None

    await built(store, runner_source(RunnerKind.STAND_IN), info={"features": {}})
    assert stored_image(RECIPE, store) is None

    await built(store)
    assert stored_image(RECIPE, store, version="v19.4.0") is None
