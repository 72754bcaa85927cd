"""Recording `info`: one boot, one ask, and no machine left."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from image_given import stored

from firerunner.errors import HostUnusable, ImageError
from firerunner.images import Image, Store, record_info
from firerunner.machines.spec import MachineSpec, Resources, Sighting, Started

pytestmark = pytest.mark.anyio

INFO = {"name": "gitlab-runner", "version": "1", "features": {"cancelable": True}}
Guest = Callable[["GuestDriver", MachineSpec], Awaitable[None]]


class GuestDriver:
    """Machines are coroutines that speak to the gate as a guest does; the test says how they behave."""

    name = "guests"

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.machines: dict[str, asyncio.Task[None]] = {}
        self.created: list[MachineSpec] = []
        self.answers: list[httpx.Response] = []

    async def create(self, spec: MachineSpec) -> Started:
        self.created.append(spec)
        self.machines[spec.machine_id] = asyncio.create_task(self.guest(self, spec))  # type: ignore[arg-type]
        return Started.COLD

    async def destroy(self, machine_id: str) -> None:
        task = self.machines.pop(machine_id, None)
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def list(self) -> list[Sighting]:
        return [Sighting(name, not task.done(), "guest reboot") for name, task in self.machines.items()]

    async def console(self, machine_id: str, max_bytes: int = 65536) -> bytes:
        return b"firerunner: 1.20 cannot boot: no /dev/vda"

    async def capacity(self) -> Resources:
        return Resources(1, 1, 1)

    async def aclose(self) -> None:
        pass

    async def say(self, spec: MachineSpec, path: str, credential: str, body: object = None) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"http://{spec.gate}/m/{spec.machine_id}/{path}",
                headers={"Authorization": f"Bearer {credential}"},
                json=body,
            )
        self.answers.append(answer)
        return answer


async def asks(driver: GuestDriver, spec: MachineSpec) -> None:
    await driver.say(spec, "guest/booted", spec.credential)
    await driver.say(spec, "api/v4/jobs/request", spec.credential, {"token": "t", "info": INFO})
    await asyncio.sleep(600)


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

    recorded = await record_info(image, store, driver)

    assert recorded.manifest.info == INFO
    assert store.resolve("demo") == recorded
    assert driver.machines == {}
    assert [answer.status_code for answer in driver.answers] == [200]


async def test_the_guest_gets_what_its_runner_needs(store: Store, image: Image) -> None:
    driver = GuestDriver(asks)

    await record_info(image, store, driver)
    with tarfile.open(fileobj=io.BytesIO(driver.answers[0].content)) as tar:
        config = tar.extractfile("run/firerunner/config.toml").read().decode()  # type: ignore[union-attr]
        names = tar.getnames()

    spec = driver.created[0]
    assert f'url = "http://{spec.gate}/m/{spec.machine_id}"' in config
    assert f'token = "{spec.credential}"' in config
    assert "run/firerunner/epoch" in names


async def test_a_boot_that_hangs_is_tried_once_more(store: Store, image: Image) -> None:
    driver = GuestDriver(hangs_the_first_time)

    recorded = await record_info(image, store, driver)

    assert recorded.manifest.info == INFO
    assert len(driver.created) == 2


@pytest.mark.parametrize("guest", [ends_early, asks_nonsense])
async def test_without_an_ask_the_error_has_the_console(store: Store, image: Image, guest: Guest) -> None:
    driver = GuestDriver(guest)

    with pytest.raises(ImageError, match=r"guest reboot.*\n.*no /dev/vda"):
        await record_info(image, store, driver)

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
        await record_info(image, store, driver)
