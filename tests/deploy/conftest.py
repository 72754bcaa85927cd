"""The demo's image, built once if the store does not have it."""

from __future__ import annotations

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.images import Image, Store


@pytest.fixture
async def image() -> Image:
    return await build(demo_recipe(None), Store(cache_dir() / "images"))
