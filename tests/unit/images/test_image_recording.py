"""Recording `info`: one boot, one ask, and no machine left."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from guest_driver import INFO, Guest, GuestDriver, asks
from image_given import stored

from firerunner.errors import HostUnusable, ImageError
from firerunner.images import Image, Store, record_info
from firerunner.machines.spec import MachineSpec

pytestmark = pytest.mark.anyio


async def recorded_by(driver: GuestDriver, image: Image, store: Store) -> Image:
    async with store.stage() as stage:
        return await record_info(image, store, stage, driver)


async def ends_early(driver: GuestDriver, spec: MachineSpec) -> None:
    return


async def hangs_the_first_time(driver: GuestDriver, spec: MachineSpec) -> None:
    if len(driver.created) > 1:
        await asks(driver, spec)


async def asks_nonsense(driver: GuestDriver, spec: MachineSpec) -> None:
    await driver.say(spec, "guest/booted", "another credential")
    await driver.say(spec, "api/v4/jobs/request", spec.credential, ["info"])
    await driver.say(spec, "api/v4/jobs/request", spec.credential, {"info": {"features": 1}})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "images")


@pytest.fixture
async def image(store: Store) -> Image:
    return await stored(store)


async def test_the_runners_own_words_get_into_the_manifest(store: Store, image: Image) -> None:
    driver = GuestDriver(asks)

    recorded = await recorded_by(driver, image, store)

    assert recorded.manifest.info == INFO
    assert store.resolve("demo") == recorded
    assert driver.machines == {}
    assert [answer.status_code for answer in driver.answers] == [200]


async def test_the_guest_gets_what_its_runner_needs(store: Store, image: Image) -> None:
    driver = GuestDriver(asks)

    await recorded_by(driver, image, store)
    with tarfile.open(fileobj=io.BytesIO(driver.answers[0].content)) as tar:
        config = tar.extractfile("run/firerunner/config.toml").read().decode()  # type: ignore[union-attr]
        names = tar.getnames()

    spec = driver.created[0]
    assert f'url = "http://{spec.gate}/m/{spec.machine_id}"' in config
    assert f'token = "{spec.credential}"' in config
    assert "run/firerunner/epoch" in names


async def test_a_boot_that_hangs_is_tried_once_more(store: Store, image: Image) -> None:
    driver = GuestDriver(hangs_the_first_time)

    recorded = await recorded_by(driver, image, store)

    assert recorded.manifest.info == INFO
    assert len(driver.created) == 2


@pytest.mark.parametrize("guest", [ends_early, asks_nonsense])
async def test_without_an_ask_the_error_has_the_console(store: Store, image: Image, guest: Guest) -> None:
    driver = GuestDriver(guest)

    with pytest.raises(ImageError, match=r"guest reboot.*\n.*no /dev/vda"):
        await recorded_by(driver, image, store)

    assert driver.machines == {}
    assert store.resolve("demo").manifest.info is None


async def test_a_driver_that_cannot_is_heard(
    store: Store, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = GuestDriver(asks)

    async def refuse(spec: MachineSpec) -> None:
        raise HostUnusable("no qemu here")

    monkeypatch.setattr(driver, "create", refuse)

    with pytest.raises(HostUnusable):
        await recorded_by(driver, image, store)
