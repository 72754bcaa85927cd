"""The driver on a fake Flintlock: one machine each, none lost, no stranger touched."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.errors import BootFailed, HostUnreachable, MachineError, SpecRefused
from firerunner.fakes.flintlock import FakeFlintlock, PaperVmm
from firerunner.machines.flintlock import request
from firerunner.machines.flintlock.channel import Endpoint
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.driver import FlintlockDriver, Patience
from firerunner.machines.flintlock.request import Place
from firerunner.machines.spec import (
    MACHINE_ID,
    ImageFiles,
    MachineSpec,
    Published,
    Resources,
    Sighting,
)

from .flintlock_given import NAMESPACE, client_of, spec, until

ONE, TWO = "fr-abcdefghijk1", "fr-abcdefghijk2"
PLACE = Place(NAMESPACE, "https://gate.example.com:8181", "br1")
ROOM = Resources(16, 65536, 500_000)
SMALL = Resources(2, 2048, 4096)
IMAGE = ImageFiles(
    "sha256:1",
    Path("/none"),
    Path("/none"),
    Path("/none"),
    Published(
        "registry.example.com/ci/fr@sha256:" + "1" * 64, "registry.example.com/ci/fr@sha256:" + "2" * 64
    ),
)
QUICK = Patience(poll_s=0.01, start_s=5.0, gone_s=5.0)


def machine(machine_id: str = ONE, resources: Resources = SMALL) -> MachineSpec:
    return MachineSpec(machine_id, resources, IMAGE, "unused", "credential")


@asynccontextmanager
async def driver_of(fake: FakeFlintlock, patience: Patience = QUICK) -> AsyncIterator[FlintlockDriver]:
    client = FlintlockClient(Endpoint(fake.address, None), timeout_s=5)
    driver = FlintlockDriver(client, PLACE, ROOM, patience=patience)
    try:
        yield driver
    finally:
        await driver.aclose()


@pytest.mark.anyio
async def test_a_machine_is_made_seen_and_removed() -> None:
    vmm = PaperVmm()
    async with FakeFlintlock(vmm=vmm, bridge="") as fake, driver_of(fake) as driver:
        await driver.create(machine())
        assert await driver.list() == [Sighting(ONE, alive=True)]
        (record,) = fake.records.values()
        started = set(vmm.running)

        await driver.destroy(ONE)
        assert await driver.list() == []

    assert started == {record.uid}
    assert fake.records == {}
    shown = record.spec
    assert (shown.vcpu, shown.memory_in_mb, shown.namespace) == (2, 2048, NAMESPACE)
    assert [each.device_id for each in shown.interfaces] == ["eth0", "eth1"]
    assert shown.interfaces[1].overrides.bridge_name == "br1"
    assert shown.interfaces[1].guest_mac == request.guest_mac(ONE)
    assert base64.b64decode(shown.metadata["firerunner"]).decode().splitlines() == [
        f"machine_id={ONE}",
        f"gate_url=https://gate.example.com:8181/m/{ONE}",
        "credential=credential",
    ]


@pytest.mark.anyio
async def test_creating_at_the_same_time_and_again_makes_one() -> None:
    async with FakeFlintlock() as fake, driver_of(fake) as driver:
        await asyncio.gather(*(driver.create(machine()) for _ in range(3)))
        await driver.create(machine())

        assert len(fake.records) == 1


@pytest.mark.anyio
async def test_after_a_lost_reply_what_was_made_is_adopted() -> None:
    async with FakeFlintlock() as fake, driver_of(fake) as driver:
        fake.misbehave("CreateMicroVM", lose_reply=True)
        await driver.create(machine())

        assert len(fake.records) == 1
        assert await driver.list() == [Sighting(ONE, alive=True)]


@pytest.mark.anyio
async def test_a_controller_that_died_in_between_is_followed_by_one_that_adopts() -> None:
    async with FakeFlintlock() as fake:
        async with driver_of(fake) as driver:
            fake.pull_s[IMAGE.published.kernel if IMAGE.published else ""] = 0.2
            making = asyncio.create_task(driver.create(machine()))

            async def there() -> bool:
                return len(fake.records) == 1

            await until(there)
            making.cancel()
            await asyncio.gather(making, return_exceptions=True)
        async with driver_of(fake) as another:
            await another.create(machine())

        assert len(fake.records) == 1


@pytest.mark.anyio
async def test_a_host_that_is_away_is_told_and_nothing_is_made_twice_when_it_is_back() -> None:
    async with FakeFlintlock() as fake, driver_of(fake) as driver:
        await fake.die()
        with pytest.raises(HostUnreachable):
            await driver.create(machine())
        await fake.start()
        await driver.create(machine())

        assert len(fake.records) == 1


@pytest.mark.anyio
async def test_a_vmm_that_does_not_start_is_a_failure_at_once_and_leaves_nothing() -> None:
    vmm = PaperVmm(broken="no /dev/kvm")
    async with FakeFlintlock(vmm=vmm, pace=1000) as fake, driver_of(fake) as driver:
        with pytest.raises(BootFailed, match="its first start failed"):
            await driver.create(machine())

        async def nothing() -> bool:
            return fake.records == {}

        await until(nothing)


@pytest.mark.anyio
async def test_a_pull_that_takes_too_long_is_given_up() -> None:
    async with FakeFlintlock() as fake, driver_of(fake, replace(QUICK, start_s=0.1)) as driver:
        fake.pull_s[IMAGE.published.root if IMAGE.published else ""] = 0.5
        with pytest.raises(BootFailed, match="slow pull"):
            await driver.create(machine())

        await driver.destroy(ONE)
        assert fake.records == {}


@pytest.mark.anyio
async def test_strangers_are_named_and_neither_they_nor_other_namespaces_are_touched() -> None:
    async with FakeFlintlock() as fake, driver_of(fake) as driver, client_of(fake) as others:
        await others.create(spec("somebody"))
        await others.create(spec(f"{ONE}-000000", namespace="theirs"))
        await driver.create(machine())

        assert [each.machine_id for each in await driver.list()] == [ONE]
        (stranger,) = await driver.strangers()
        await driver.destroy(ONE)
        left = {record.key for record in fake.records.values()}

    assert stranger.startswith("somebody (")
    assert left == {(NAMESPACE, "somebody"), ("theirs", f"{ONE}-000000")}


@pytest.mark.anyio
async def test_attempts_that_were_left_behind_go_with_their_machine() -> None:
    async with FakeFlintlock() as fake, driver_of(fake) as driver, client_of(fake) as client:
        for attempt in ("aaaaaa", "bbbbbb"):
            await client.create(spec(request.attempt_name(ONE, attempt)))
        await client.create(spec(request.attempt_name(TWO, "cccccc")))

        await driver.destroy(ONE)

        assert [each.machine_id for each in await driver.list()] == [TWO]


@pytest.mark.anyio
async def test_a_record_that_somebody_deletes_meanwhile_is_a_failure() -> None:
    async with FakeFlintlock() as fake, driver_of(fake) as driver:
        fake.pull_s[IMAGE.published.root if IMAGE.published else ""] = 0.3
        making = asyncio.create_task(driver.create(machine()))

        async def there() -> bool:
            return len(fake.records) == 1

        await until(there)
        fake.records.clear()
        with pytest.raises(BootFailed, match="deleted meanwhile"):
            await making


@pytest.mark.anyio
async def test_what_does_not_go_is_said() -> None:
    async with FakeFlintlock() as fake, driver_of(fake, replace(QUICK, gone_s=0.1)) as driver:
        await driver.create(machine())
        fake.misbehave("DeleteMicroVM", code=grpc.StatusCode.UNKNOWN, text="not found")  # and it is there
        with pytest.raises(MachineError, match="has not removed"):
            await driver.destroy(ONE)

        await driver.destroy(ONE)
        assert fake.records == {}


@pytest.mark.parametrize(
    ("vcpu", "memory_mib", "word"),
    [(3, 2048, "even"), (34, 2048, "at most 32"), (2, 512, "1024"), (2, 40_000, "32768")],
)
def test_sizes_that_would_never_boot_are_refused(vcpu: int, memory_mib: int, word: str) -> None:
    asked = machine(resources=Resources(vcpu, memory_mib, 64))
    with pytest.raises(SpecRefused, match=word):
        request.microvm_spec(asked, PLACE, "name")


@pytest.mark.parametrize("vcpu", [1, 2, 8, 32])
def test_sizes_that_boot_are_taken_as_they_are(vcpu: int) -> None:
    assert request.microvm_spec(machine(resources=Resources(vcpu, 1024, 64)), PLACE, "name").vcpu == vcpu


def test_an_image_that_is_in_no_registry_is_refused() -> None:
    unpublished = replace(machine(), image=replace(IMAGE, published=None))
    with pytest.raises(SpecRefused, match="firerunner image push"):
        request.microvm_spec(unpublished, PLACE, "name")


def test_without_a_bridge_there_are_no_overrides() -> None:
    made = request.microvm_spec(machine(), replace(PLACE, bridge=None), "name")

    assert not made.interfaces[0].HasField("overrides")


@given(st.from_regex(MACHINE_ID, fullmatch=True), st.from_regex(r"[0-9a-f]{6}", fullmatch=True))
def test_a_name_tells_its_machine(machine_id: str, attempt: str) -> None:
    assert request.machine_of(request.attempt_name(machine_id, attempt)) == machine_id


@given(st.text(max_size=30))
def test_no_other_name_is_taken_for_ours(name: str) -> None:
    found = request.machine_of(name)

    assert found is None or MACHINE_ID.fullmatch(found)


@given(st.from_regex(MACHINE_ID, fullmatch=True))
def test_a_mac_is_local_and_of_one_machine(machine_id: str) -> None:
    first = int(request.guest_mac(machine_id).split(":")[0], 16)

    assert first & 3 == 2
    assert request.guest_mac(machine_id) == request.guest_mac(machine_id)
