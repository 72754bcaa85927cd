"""A manifest's digest names all that the manifest says."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_given import ONES, ZEROS, fill, manifest_of, runner_source
from pydantic import ValidationError

from firerunner.errors import ImageError
from firerunner.images import Manifest, Recipe, RunnerKind
from firerunner.images.build import refuse_unfit


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    fill(tmp_path / "image")
    return manifest_of(tmp_path / "image").sealed()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"kernel_version": "6.2"},
        {"info": {"features": {}}},
        {"production": True},
        {"files": {}},
        {"recipe_digest": ONES},
    ],
)
def test_every_field_is_in_the_digest(manifest: Manifest, change: dict[str, object]) -> None:
    assert manifest.model_copy(update=change).content_digest() != manifest.digest


def test_the_digest_is_the_same_after_a_round_trip(manifest: Manifest) -> None:
    again = Manifest.model_validate_json(manifest.model_dump_json(indent=2))

    assert again == manifest
    assert again.content_digest() == manifest.digest


@pytest.mark.parametrize(
    "change", [{"name": "../up"}, {"digits": 1}, {"recipe_digest": "0"}, {"production": []}]
)
def test_what_is_no_manifest_is_refused(manifest: Manifest, change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Manifest.model_validate({**manifest.model_dump(), **change})


def test_a_recipe_covers_packages_runner_and_name() -> None:
    recipe, runner = Recipe("demo"), runner_source()
    digests = {
        recipe.digest(runner),
        Recipe("demo", packages=("make",)).digest(runner),
        Recipe("other").digest(runner),
        recipe.digest(runner_source(sha256=ONES)),
        recipe.digest(runner_source(RunnerKind.STAND_IN)),
    }

    assert len(digests) == 5
    assert recipe.digest(runner) == Recipe("demo").digest(runner)


def test_two_names_share_a_root() -> None:
    assert Recipe("demo").root_digest(runner_source()) == Recipe("other").root_digest(runner_source())


def test_only_the_stand_in_brings_its_tools() -> None:
    recipe = Recipe("demo", packages=("make",))
    official = recipe.all_packages(runner_source())
    stand_in = recipe.all_packages(runner_source(RunnerKind.STAND_IN))

    assert {"git", "git-lfs", "bash", "ca-certificates", "curl", "make"} <= set(official)
    assert set(stand_in) - set(official) == {"jq", "zip", "unzip"}


def test_the_stand_in_is_refused_for_production() -> None:
    with pytest.raises(ImageError, match="production") as raised:
        refuse_unfit(Recipe("prod", production=True), runner_source(RunnerKind.STAND_IN, ZEROS))

    assert "--runner-binary" in raised.value.remedy
