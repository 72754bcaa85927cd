"""A host of another computer as the settings say it: each key acts, and each mistake is named."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from firerunner.doctor import examine_hosts, never_made
from firerunner.errors import HostUnusable, SettingsError
from firerunner.fakes.flintlock import FakeFlintlock
from firerunner.findings import Level
from firerunner.hosting import HostDriver, driver_of
from firerunner.machines.flintlock.request import machine_of
from firerunner.machines.spec import ImageFiles, MachineSpec, Published, Resources
from firerunner.settings import Settings, load_settings

from .flintlock_given import Papers

pytestmark = pytest.mark.anyio

MACHINE = "fr-abcdefghijkl"
NOWHERE = Path("/nonexistent")
IMAGE = ImageFiles(
    "0" * 64,
    NOWHERE,
    NOWHERE,
    NOWHERE,
    Published("r.test/k@sha256:" + "1" * 64, "r.test/r@sha256:" + "2" * 64),
)
HOST: dict[str, Any] = {
    "name": "kvm-1",
    "driver": "flintlock",
    "address": "127.0.0.1:9",
    "insecure": True,
    "gate_url": "http://10.0.0.1:8181",
    "vcpu": 8,
    "memory_mib": 16384,
    "disk_mib": 65536,
}


def configured(
    folder: Path, *hosts: dict[str, Any], pool: dict[str, Any] | None = None, **more: Any
) -> Settings:
    small = {"name": "small", "runner_token": "glrt-x", "image": "none", "memory_mib": 1024, "disk_mib": 64}
    path = folder / "config.yaml"
    base = {
        "gitlab": {"url": "http://127.0.0.1:9"},
        "state_dir": str(folder),
        "pools": [small | (pool or {})],
    }
    path.write_text(yaml.safe_dump(base | {"hosts": list(hosts)} | more))
    return load_settings(path)


@asynccontextmanager
async def driver(settings: Settings) -> AsyncIterator[HostDriver]:
    made = driver_of(settings, settings.hosts[0])
    try:
        yield made
    finally:
        await made.aclose()


def machine(machine_id: str = MACHINE) -> MachineSpec:
    return MachineSpec(machine_id, Resources(1, 1024, 64), IMAGE, "not-used:1", "c" * 20)


async def test_address_namespace_bridge_and_gate_reach_the_daemon(tmp_path: Path) -> None:
    async with FakeFlintlock() as fake:
        host = HOST | {"address": fake.address, "namespace": "team-a", "bridge": "br7"}
        async with driver(configured(tmp_path, host)) as made:
            await made.create(machine())
            assert made.guest_gate_url(MACHINE) == f"http://10.0.0.1:8181/m/{MACHINE}"
        (record,) = fake.records.values()

    assert (record.spec.namespace, machine_of(record.spec.id)) == ("team-a", MACHINE)
    assert record.spec.interfaces[-1].overrides.bridge_name == "br7"


async def test_certificates_token_and_name_are_shown_as_set(tmp_path: Path) -> None:
    papers = Papers(tmp_path)
    ours = papers.ours()
    tls = {
        "ca_file": str(ours.ca_file),
        "cert_file": str(ours.cert_file),
        "key_file": str(ours.key_file),
        "server_name": "kvm1.example.com",
    }
    secure = {k: v for k, v in HOST.items() if k != "insecure"} | {"gate_url": "https://10.0.0.1:8443"}
    async with FakeFlintlock(identity=papers.host("kvm1.example.com", asks=True), token="s3cret") as fake:
        host = secure | {"address": fake.address, "tls": tls, "token": "s3cret"}
        for missing, said in (("server_name", "server_name"), ("ca_file", "authority")):
            without = {key: value for key, value in tls.items() if key != missing}
            async with driver(configured(tmp_path, host | {"tls": without})) as made:
                (problem,) = await made.check()
                assert said in problem.remedy
        pair_missing = {key: value for key, value in tls.items() if key not in {"cert_file", "key_file"}}
        async with driver(configured(tmp_path, host | {"tls": pair_missing})) as made:
            assert len(await made.check()) == 1
        async with driver(configured(tmp_path, host | {"token": "wrong"})) as made:
            (problem,) = await made.check()
            assert "--basic-auth-token" in problem.remedy
        async with driver(configured(tmp_path, host)) as made:
            assert await made.check() == ()


async def test_a_call_takes_no_longer_than_is_set(tmp_path: Path) -> None:
    async with FakeFlintlock() as fake:
        hung = fake.misbehave("ListMicroVMs", times=100, hang=True)
        async with driver(configured(tmp_path, HOST | {"address": fake.address, "timeout": "1s"})) as made:
            started = time.monotonic()
            with pytest.raises(HostUnusable):
                await made.list()
        assert time.monotonic() - started >= 1.0  # it has waited for it, and then not for ever
        hung.release()


async def test_overcommit_gives_out_more(tmp_path: Path) -> None:
    host = HOST | {"overcommit_vcpu": 2.5, "overcommit_memory": 1.5}
    async with driver(configured(tmp_path, host)) as made:
        assert await made.capacity() == Resources(20, 24576, 65536)


def test_labels_choose_the_hosts_of_a_pool(tmp_path: Path) -> None:
    hosts = [
        HOST | {"name": f"kvm-{n}", "labels": {"zone": zone, "disk": "nvme"}} for n, zone in enumerate("aab")
    ]
    in_a = configured(tmp_path, *hosts, pool={"host_labels": {"zone": "a"}})
    of_two = configured(tmp_path, *hosts, pool={"host_labels": {"disk": "nvme"}, "hosts": ["kvm-1", "kvm-2"]})

    assert [host.name for host in in_a.hosts_of(in_a.pools[0])] == ["kvm-0", "kvm-1"]
    assert [host.name for host in of_two.hosts_of(of_two.pools[0])] == ["kvm-1", "kvm-2"]
    with pytest.raises(SettingsError, match="no host of small has the labels zone: c"):
        configured(tmp_path, *hosts, pool={"host_labels": {"zone": "c"}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"namespace": "team/a"}, r"hosts\[0\].namespace: .*a slash breaks Flintlock"),
        ({"namespace": "A"}, "expected small letters"),
        ({"namespace": "-a"}, "expected small letters"),
        ({"namespace": "x" * 41}, "at most 40"),
        ({"address": "kvm-1"}, r"hosts\[0\].address"),
        ({"address": None}, "driver: flintlock needs address"),
        ({"gate_url": ""}, "driver: flintlock needs gate_url"),
        ({"vcpu": None, "disk_mib": None}, "driver: flintlock needs vcpu, disk_mib"),
        ({"insecure": False}, "tls is missing"),
        ({"insecure": False, "tls": {}}, "gate_url must be https"),
        ({"gate_url": "http://10.0.0.1:8181/m/"}, "without a path"),
        ({"bridge": "a-bridge-with-a-long-name"}, "at most 15 characters"),
        ({"disk_dir": "/disks"}, "disk_dir is for driver: qemu"),
        ({"driver": "qemu"}, "is for driver: flintlock"),
        ({"labels": {"zone": "a b"}}, "expected letters, digits"),
        ({"tls": {"cert_file": "/nonexistent.pem"}}, "nonexistent"),
        ({"overcommit_memory": 0.5}, "greater than or equal to 1"),
    ],
)
def test_a_mistake_is_named_at_config_check(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    host = {key: value for key, value in (HOST | changes).items() if value is not None}
    with pytest.raises(SettingsError) as refused:
        configured(tmp_path, host)

    assert re.search(said, refused.value.message), refused.value.message


def test_a_detour_that_guests_elsewhere_cannot_take_is_named(tmp_path: Path) -> None:
    detour = {"host": "a.test", "port": 443, "connect_to": "10.0.0.5"}
    with pytest.raises(SettingsError, match=r"egress a\.test has connect_to, which host kvm-1 cannot"):
        configured(tmp_path, HOST, pool={"egress": [detour]})


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"vcpu": 3}, "3 vCPU: Firecracker boots with 1 or an even number, at most 32"),
        ({"vcpu": 34}, "34 vCPU"),
        ({"memory_mib": 512}, "512 MiB memory: Flintlock makes 1024 to 32768 MiB"),
        ({"memory_mib": 40000}, "40000 MiB"),
    ],
)
async def test_a_size_that_would_never_boot_is_said_at_config_check(
    tmp_path: Path, pool: dict[str, Any], said: str
) -> None:
    (finding,) = await never_made(configured(tmp_path, HOST, pool=pool))

    assert (finding.subject, finding.level) == ("pool small", Level.FAIL)
    assert said in finding.what
    assert await never_made(configured(tmp_path, HOST, pool={"vcpu": 4, "memory_mib": 2048})) == []


async def test_doctor_looks_at_a_host_and_says_what_is_wrong(tmp_path: Path) -> None:
    wide = {"egress": ["a.test:443", "10.2.0.0/16", "internet:80"]}
    async with FakeFlintlock() as fake:
        settings = configured(
            tmp_path, HOST | {"address": fake.address, "gate_url": "http://127.0.0.1:9"}, pool=wide
        )
        async with driver(settings) as made:
            await made.create(machine())
        stranger = next(iter(fake.records.values())).spec
        stranger.id = "somebody-elses"
        there = await examine_hosts(settings)
        await fake.die()
        gone = await examine_hosts(settings, "kvm-1")

    levels = {finding.what: finding.level for finding in there}
    through = "its network has to let guests through to 127.0.0.1:9, a.test:443, 10.2.0.0/16, internet:80"
    assert through in levels
    assert any("Flintlock answers; 8 vCPU" in what for what in levels)
    assert any("1 microVMs in our namespace are not ours: somebody-elses" in what for what in levels)
    assert any("the gate is not reached at http://127.0.0.1:9" in what for what in levels)
    assert gone[0].level is Level.FAIL
    assert gone[0].remedy
