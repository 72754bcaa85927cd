"""Fixtures: the test guest, and a kit for each driver whose machines are gone after the test."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from firerunner.machines.spec import ImageFiles
from tests.contract.flintlock_kit import FlintlockKit, flintlock
from tests.contract.guest import make_guest
from tests.contract.kits import QemuKit, ReadyDriver
from tests.contract.real_flintlock import RealFlintlockKit, real_flintlock


@pytest.fixture(scope="session")
def test_guest(tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    return make_guest(tmp_path_factory.mktemp("guest"))


@pytest.fixture
async def qemu_kit(
    tmp_path_factory: pytest.TempPathFactory, test_guest: ImageFiles, anyio_backend: str
) -> AsyncIterator[QemuKit]:
    kit = QemuKit(tmp_path_factory.mktemp("state"), test_guest)
    yield kit
    await kit.clear()


@pytest.fixture(scope="session")
def saved_states(tmp_path_factory: pytest.TempPathFactory, test_guest: ImageFiles) -> Path:
    """A state directory in which the test guest has been saved."""
    kit = QemuKit(tmp_path_factory.mktemp("saved"), test_guest)
    spec = kit.spec("fr-contract0000")

    async def save() -> None:
        driver = kit.driver()
        await driver.save_state(spec.image, spec.resources)
        await driver.aclose()

    asyncio.run(save())
    return kit.state_dir


@pytest.fixture
async def restored_kit(
    tmp_path_factory: pytest.TempPathFactory,
    test_guest: ImageFiles,
    saved_states: Path,
    anyio_backend: str,
) -> AsyncIterator[QemuKit]:
    kit = QemuKit(tmp_path_factory.mktemp("state"), test_guest, makes=ReadyDriver, restore=True)
    shutil.copytree(saved_states, kit.state_dir, dirs_exist_ok=True, copy_function=os.link)
    yield kit
    await kit.clear()


@pytest.fixture
async def flintlock_kit(
    tmp_path_factory: pytest.TempPathFactory, test_guest: ImageFiles, anyio_backend: str
) -> AsyncIterator[FlintlockKit]:
    with flintlock(tmp_path_factory.mktemp("host"), test_guest) as kit:
        yield kit
        for driver in kit.drivers:
            await driver.aclose()


@pytest.fixture
async def real_flintlock_kit(
    tmp_path: Path, test_guest: ImageFiles, anyio_backend: str
) -> AsyncIterator[RealFlintlockKit]:
    async with real_flintlock(test_guest, tmp_path / "images") as kit:
        yield kit
