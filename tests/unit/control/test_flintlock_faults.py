"""A burst on hosts with Flintlock while they fail: nothing is lost, nothing runs twice, nothing is left."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import grpc
import httpx
import pytest

from firerunner.control import hosts as hosts_of_control
from firerunner.control import lost, sightings
from firerunner.fakes.flintlock import FakeFlintlock
from firerunner.fakes.flintlock.records import Record
from firerunner.fakes.gitlab.model import Job
from firerunner.fakes.machines import Guest, Life, start
from firerunner.ledger import MachineState
from firerunner.machines.flintlock.channel import Endpoint
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.driver import FlintlockDriver, Patience
from firerunner.machines.flintlock.proto import types_pb2
from firerunner.machines.flintlock.request import BOOT_ITEM, Place
from firerunner.machines.spec import MachineSpec, Published, Resources

from .conftest import World
from .test_loop import Held

pytestmark = pytest.mark.anyio

PUBLISHED = Published("r.test/k@sha256:" + "1" * 64, "r.test/r@sha256:" + "2" * 64)
ROOM = Resources(8, 8192, 65536)
JOBS = 24


async def short_life(guest: Guest) -> None:
    await start(guest)
    await guest.say("working\n")
    await asyncio.sleep(0.5)
    await guest.update("success")
    await guest.ended()


@dataclass(slots=True)
class GuestVmm:
    """Satisfies `fakes.flintlock.vmm.Vmm`: each machine is a coroutine that knows its metadata only."""

    http: httpx.AsyncClient
    life: Life = short_life
    lives: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)

    async def start(self, record: Record) -> None:
        text = base64.b64decode(record.spec.metadata[BOOT_ITEM]).decode()
        said = dict(line.split("=", 1) for line in text.splitlines())
        gate = said["gate_url"].removeprefix("http://").partition("/")[0]
        spec = MachineSpec(said["machine_id"], Resources(1, 1024, 64), None, gate, said["credential"])  # type: ignore[arg-type]
        self.starts[said["machine_id"]] = self.starts.get(said["machine_id"], 0) + 1
        self.lives[record.uid] = asyncio.create_task(self._live(Guest(spec, self.http)))

    async def _live(self, guest: Guest) -> None:
        with contextlib.suppress(httpx.HTTPError):
            await self.life(guest)

    async def alive(self, record: Record) -> bool:
        life = self.lives.get(record.uid)
        return life is not None and not life.done()

    async def remove(self, record: Record) -> None:
        life = self.lives.pop(record.uid, None)
        if life is not None:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)

    def lose_power(self) -> None:
        for life in self.lives.values():
            life.cancel()


@dataclass(slots=True)
class Fleet:
    """Three hosts and who makes machines there, in place of the world's own driver."""

    world: World
    hosts: dict[str, FakeFlintlock]
    vmms: dict[str, GuestVmm]

    async def jobs(self, count: int) -> list[Job]:
        return [(await self.world.pipeline())[1] for _ in range(count)]

    async def cut_power(self, name: str) -> None:
        await self.hosts[name].die()
        self.vmms[name].lose_power()

    async def until_busy(self, name: str, count: int = 1) -> None:
        async def busy() -> bool:
            machines = await self.world.ledger.machines()
            return sum(m.host == name and m.state is MachineState.BUSY for m in machines) >= count

        await self.world.until(busy)

    async def check_all_ran_once(self, jobs: list[Job]) -> None:
        """Each ended well, itself or by a retry, GitLab's or ours, and nothing is left anywhere."""
        for job in jobs:
            await self.world.ended(job)
        for each in self.world.gitlab.jobs():
            await self.world.ended(each)
        everything = list(self.world.gitlab.jobs())
        by_pipeline: dict[int, list[Job]] = {}
        for each in everything:
            by_pipeline.setdefault(each.pipeline.id, []).append(each)
        assert len(by_pipeline) >= len(jobs)
        for runs in by_pipeline.values():
            ends = [(each.status, each.failure_reason) for each in sorted(runs, key=lambda each: each.id)]
            assert ends[-1] == ("success", None), ends
            assert set(ends[:-1]) <= {("failed", "runner_system_failure"), ("canceled", None)}
        assert all(each.handed_out == 1 for each in everything)
        await self.world.finish()
        assert await self.world.ledger.machines() == []
        assert self.world.gitlab.managers() == []
        ours = [
            r.spec.id for host in self.hosts.values() for r in host.records.values() if r.spec.id[:3] == "fr-"
        ]
        assert ours == []


@pytest.fixture
async def fleet(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(sightings, "LOST_S", 1.0)
    monkeypatch.setattr(sightings, "LOST_BUSY_S", 2.0)
    monkeypatch.setattr(hosts_of_control, "FIRST_PAUSE_S", 2.0)
    monkeypatch.setattr(lost, "SURELY_S", 3.0)
    world.api_token = world.gitlab.api_token  # a crash between GitLab's 201 and our commit is made good
    world._image = replace(world._image, files=replace(world._image.files, published=PUBLISHED))
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=330, trust_env=False))
        hosts, vmms, drivers = {}, {}, {}
        for name in ("kvm-1", "kvm-2", "kvm-3"):
            vmms[name] = GuestVmm(http)
            hosts[name] = await stack.enter_async_context(FakeFlintlock(vmm=vmms[name], pace=1.0))
            client = FlintlockClient(Endpoint(hosts[name].address, None), timeout_s=2.0)
            place = Place("firerunner", f"http://{world.gate_address}")
            drivers[name] = FlintlockDriver(client, place, ROOM, patience=Patience(poll_s=0.05))
            stack.push_async_callback(drivers[name].aclose)
        await world.hand_over()
        world.drivers.clear()
        world.drivers.update(drivers)  # type: ignore[arg-type]
        world.limit = JOBS
        world.options = {"memory_mib": 1024, "disk_mib": 64}
        await world.start()
        yield Fleet(world, hosts, vmms)
        await world.crash()


async def test_a_host_that_loses_its_power_in_a_burst_and_comes_back(fleet: Fleet) -> None:
    jobs = await fleet.jobs(JOBS)
    await fleet.until_busy("kvm-2", 2)
    await fleet.cut_power("kvm-2")
    await asyncio.sleep(3.5)
    await fleet.hosts["kvm-2"].start()  # and starts again what had ended

    await fleet.check_all_ran_once(jobs)
    assert fleet.vmms["kvm-1"].starts
    assert fleet.vmms["kvm-3"].starts


async def test_a_daemon_that_is_killed_and_started_in_a_burst_costs_no_job(fleet: Fleet) -> None:
    jobs = await fleet.jobs(JOBS)
    await fleet.until_busy("kvm-1", 2)
    await fleet.hosts["kvm-1"].die()
    await asyncio.sleep(0.3)
    await fleet.hosts["kvm-1"].start()

    await fleet.check_all_ran_once(jobs)
    assert {job.status for job in jobs} == {"success"}


async def test_lost_replies_and_hanging_calls_make_no_second_machine(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.misbehave("CreateMicroVM", times=2, lose_reply=True)
        host.misbehave("ListMicroVMs", times=3, hang=True)
        host.misbehave("DeleteMicroVM", times=2, lose_reply=True)
    jobs = await fleet.jobs(JOBS)

    await fleet.check_all_ran_once(jobs)
    starts = [count for vmm in fleet.vmms.values() for count in vmm.starts.values()]
    assert max(starts) == 1


async def test_strangers_in_our_namespace_are_left_alone(fleet: Fleet) -> None:
    others: list[tuple[FakeFlintlock, str]] = []
    for host in fleet.hosts.values():
        client = FlintlockClient(Endpoint(host.address, None))
        for name in ("somebody-elses", "fr-abcdefghijkl", "fr-abcdefghijkl-zzzzzz"):
            made = await client.create(stranger(name))
            others.append((host, made.spec.uid))
        await client.aclose()
    jobs = await fleet.jobs(6)
    for job in jobs:
        await fleet.world.ended(job)
    await fleet.world.finish()

    assert all(uid in host.records for host, uid in others)
    assert await fleet.world.ledger.machines() == []


async def test_records_that_are_deleted_behind_our_back_are_reported_and_not_run_twice(fleet: Fleet) -> None:
    others = fleet.vmms["kvm-3"].life = Held()
    jobs = await fleet.jobs(JOBS)
    await fleet.until_busy("kvm-3", 6)
    fleet.vmms["kvm-3"].life = short_life
    host = fleet.hosts["kvm-3"]
    for record in list(host.records.values())[:3]:  # fewer than the brake takes for a fault of the host
        await fleet.vmms["kvm-3"].remove(record)
        host.records.pop(record.uid)

    async def all_reported() -> bool:
        ends = [job.failure_reason for job in fleet.world.gitlab.jobs()]
        return ends.count("runner_system_failure") == 3

    await fleet.world.until(all_reported)
    others.go_on.set()
    await fleet.check_all_ran_once(jobs)


async def test_a_host_that_fails_each_create_gets_no_more_of_the_burst(fleet: Fleet) -> None:
    fleet.hosts["kvm-1"].misbehave("CreateMicroVM", times=1000, code=grpc.StatusCode.UNKNOWN, text="no disk")
    jobs = await fleet.jobs(JOBS)

    await fleet.check_all_ran_once(jobs)
    assert {job.status for job in jobs} == {"success"}
    assert fleet.hosts["kvm-1"].calls.count("CreateMicroVM") < JOBS / 2


def stranger(name: str) -> types_pb2.MicroVMSpec:
    made = types_pb2.MicroVMSpec(id=name, namespace="firerunner", vcpu=1, memory_in_mb=1024)
    made.kernel.image, made.kernel.filename = "r.test/k:1", "vmlinux"
    made.root_volume.id = "root"
    made.root_volume.source.container_source = "r.test/r:1"
    made.interfaces.add(device_id="eth1", type=types_pb2.NetworkInterface.TAP, guest_mac="06:00:0a:00:00:02")
    made.metadata[BOOT_ITEM] = base64.b64encode(
        b"machine_id=none\ngate_url=http://127.0.0.1:9/m/none\ncredential=x\n"
    ).decode()
    return made


async def test_a_controller_that_is_killed_twice_in_a_burst_adopts_what_runs(fleet: Fleet) -> None:
    jobs = await fleet.jobs(JOBS)
    for name in ("kvm-1", "kvm-2"):
        await fleet.until_busy(name)
        await fleet.world.crash()
        await fleet.world.start()

    await fleet.check_all_ran_once(jobs)
    starts = [count for vmm in fleet.vmms.values() for count in vmm.starts.values()]
    assert max(starts) == 1
