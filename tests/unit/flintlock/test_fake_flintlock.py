"""The fake behaves as Flintlock does where that surprises."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
import yaml

from firerunner.errors import HostUnreachable, SpecRefused
from firerunner.fakes.flintlock import FakeFlintlock, PaperVmm
from firerunner.fakes.flintlock.records import CREATED, DELETING, FAILED, PENDING
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.proto import types_pb2

from .flintlock_given import NAMESPACE, client_of, spec, until

pytestmark = pytest.mark.anyio


async def reach(client: FlintlockClient, uid: str, state: int) -> types_pb2.MicroVM:
    async def look() -> types_pb2.MicroVM | None:
        vm = await client.get(uid)
        return vm if vm is not None and vm.status.state == state else None

    found: types_pb2.MicroVM = await until(look)
    return found


async def test_a_create_answers_before_anything_is_done() -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        made = await client.create(spec())
        at_first = made.status.state
        later = await reach(client, made.spec.uid, CREATED)

    assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", made.spec.uid)
    assert at_first == PENDING
    assert later.version > made.version


async def test_a_name_may_repeat_and_the_uid_is_the_identity() -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        first, second = [await client.create(spec()) for _ in range(2)]
        named = await client.list(NAMESPACE, "fr-abcdefghijkl-1")
        by_name = await client.get("ours/fr-abcdefghijkl-1")

    assert first.spec.uid != second.spec.uid
    assert {vm.spec.uid for vm in named} == {first.spec.uid, second.spec.uid}
    assert by_name is None


async def test_labels_are_dropped_and_metadata_is_shown_to_everybody() -> None:
    asked = spec()
    asked.labels["pool"] = "small"
    async with FakeFlintlock() as fake, client_of(fake) as client:
        made = await client.create(asked)
        (seen,) = await client.list(NAMESPACE)

    meta = yaml.safe_load(base64.b64decode(seen.spec.metadata["meta-data"]))
    assert meta == {"instance_id": made.spec.uid}
    assert dict(seen.spec.labels) == {}
    assert seen.spec.metadata["user-data"] == asked.metadata["user-data"]
    assert not seen.spec.HasField("provider")
    assert not seen.spec.HasField("created_at")


async def test_an_interface_for_metadata_is_put_first() -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        made = await client.create(spec())

    assert [interface.device_id for interface in made.spec.interfaces] == ["eth0", "eth1"]
    assert made.spec.interfaces[0].address.address == "169.254.0.1/16"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"id": ""}, "name is required"),
        ({"memory_in_mb": 512}, "MemoryInMb"),
        ({"memory_in_mb": 40_000}, "MemoryInMb"),
        ({"vcpu": 65}, "VCPU"),
        ({"provider": "cloudhypervisor"}, "isn't available"),
    ],
)
async def test_what_is_refused_at_once(wrong: dict[str, Any], said: str) -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        with pytest.raises(SpecRefused, match=said):
            await client.create(spec(**wrong))

        assert await client.list(NAMESPACE) == []


def _no_filename(made: types_pb2.MicroVMSpec) -> None:
    made.kernel.ClearField("filename")


def _macvtap(made: types_pb2.MicroVMSpec) -> None:
    made.interfaces[0].type = types_pb2.NetworkInterface.MACVTAP


def _no_kernel(made: types_pb2.MicroVMSpec) -> None:
    made.kernel.ClearField("image")


def _bad_meta_data(made: types_pb2.MicroVMSpec) -> None:
    made.metadata["meta-data"] = "%%%"


def _no_interface(made: types_pb2.MicroVMSpec) -> None:
    del made.interfaces[:]


def _bad_gateway(made: types_pb2.MicroVMSpec) -> None:
    made.interfaces[0].address.address = "10.0.0.2/24"
    made.interfaces[0].address.gateway = "10.0.0.1"


def _device_with_dash(made: types_pb2.MicroVMSpec) -> None:
    made.interfaces[0].device_id = "eth-1"


@pytest.mark.parametrize(
    "change",
    [_no_filename, _no_kernel, _bad_meta_data, _macvtap, _no_interface, _bad_gateway, _device_with_dash],
)
async def test_what_is_refused_by_its_parts(change: Any) -> None:
    asked = spec()
    change(asked)
    async with FakeFlintlock() as fake, client_of(fake) as client:
        with pytest.raises(SpecRefused):
            await client.create(asked)


def _three_vcpu(made: types_pb2.MicroVMSpec) -> None:
    made.vcpu = 3


def _own_eth0(made: types_pb2.MicroVMSpec) -> None:
    made.interfaces[0].device_id = "eth0"


@pytest.mark.parametrize("change", [_three_vcpu, _own_eth0])
async def test_what_is_taken_and_never_boots_shows_by_rising_retries(change: Any) -> None:
    asked = spec()
    change(asked)
    async with FakeFlintlock(pace=10_000) as fake, client_of(fake) as client:
        uid = (await client.create(asked)).spec.uid

        async def risen() -> bool:
            vm = await client.get(uid)
            return vm is not None and vm.status.retry > 2

        await until(risen)
        failed = await reach(client, uid, FAILED)
        assert failed.status.retry == 11
        assert await client.delete(uid)
        await until(lambda: _gone(client, uid))


async def _gone(client: FlintlockClient, uid: str) -> bool:
    return await client.get(uid) is None


async def test_a_delete_is_seen_before_it_is_done_and_the_second_finds_nothing() -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        uid = (await client.create(spec())).spec.uid
        await reach(client, uid, CREATED)
        fake.pull_s["registry.example.com/ci/slow:1"] = 0.5
        slow = spec("fr-slow")
        slow.kernel.image = "registry.example.com/ci/slow:1"
        await client.create(slow)  # the one worker is busy with it

        assert await client.delete(uid)
        seen = await client.get(uid)
        await until(lambda: _gone(client, uid))
        again = await client.delete(uid)

    assert seen is not None
    assert seen.status.state == DELETING
    assert again is False


async def test_a_microvm_that_ended_is_started_again_at_the_next_resync() -> None:
    vmm = PaperVmm()
    async with FakeFlintlock(vmm=vmm) as fake, client_of(fake) as client:
        uid = (await client.create(spec())).spec.uid
        await reach(client, uid, CREATED)
        vmm.ended(uid)
        ended = await client.get(uid)
        fake.resync()

        async def again() -> bool:
            return vmm.starts[uid] == 2

        await until(again)

    assert ended is not None
    assert ended.status.state == CREATED  # nothing says that it has ended


async def test_records_and_vmms_outlive_the_daemon() -> None:
    vmm = PaperVmm()
    async with FakeFlintlock(vmm=vmm) as fake, client_of(fake, timeout_s=5) as client:
        uid = (await client.create(spec())).spec.uid
        await reach(client, uid, CREATED)
        await fake.die()
        with pytest.raises(HostUnreachable):
            await client.get(uid)
        assert vmm.running == {uid}

        await fake.start()

        assert (await reach(client, uid, CREATED)).spec.uid == uid
        assert vmm.starts[uid] == 1


async def test_overrides_without_a_bridge_kill_the_daemon() -> None:
    asked = spec()
    asked.interfaces[0].overrides.SetInParent()
    async with FakeFlintlock() as fake, client_of(fake, timeout_s=5) as client:
        with pytest.raises(HostUnreachable):
            await client.create(asked)
        with pytest.raises(HostUnreachable):
            await client.get("x")


async def test_a_vmm_that_does_not_start_is_tried_again_later() -> None:
    vmm = PaperVmm(broken="no /dev/kvm")
    async with FakeFlintlock(vmm=vmm, pace=1000) as fake, client_of(fake) as client:
        uid = (await client.create(spec())).spec.uid

        async def tried() -> bool:
            vm = await client.get(uid)
            return vm is not None and vm.status.retry > 0

        await until(tried)
        vmm.broken = ""
        seen = await reach(client, uid, CREATED)

    assert seen.status.retry == 0


async def test_namespaces_are_apart_and_an_empty_one_is_never_asked_for() -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        await client.create(spec())
        await client.create(spec(namespace="theirs"))

        assert len(await client.list(NAMESPACE)) == 1
        with pytest.raises(ValueError, match="namespace"):
            await client.list("")
