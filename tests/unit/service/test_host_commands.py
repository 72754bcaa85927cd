"""`firerunner hosts`, `cordon`, `drain` and the gate for other hosts, as an operator meets them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_commands import run
from test_settings_act import serving
from tests.certificates import authority

from firerunner.app import open_ledger
from firerunner.demo.stage import free_port
from firerunner.doctor import examine_hosts
from firerunner.fakes.flintlock import FakeFlintlock
from firerunner.findings import Finding, Level
from firerunner.fleet_view import hosts_now
from firerunner.ledger import HostOrder, HostUse, MachineState
from firerunner.machines.spec import Resources
from firerunner.settings import Settings, load_settings

pytestmark = pytest.mark.anyio

MACHINE = "fr-abcdefghijkl"


def elsewhere(name: str, address: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "driver": "flintlock",
        "address": address,
        "insecure": True,
        "gate_url": "http://127.0.0.1:9",
        "vcpu": 8,
        "memory_mib": 16384,
        "disk_mib": 65536,
    } | more


def configured(folder: Path, *hosts: dict[str, Any]) -> Path:
    path = folder / "config.yaml"
    pool = {"name": "small", "runner_token": "glrt-x", "image": "none", "memory_mib": 1024}
    said = {"gitlab": {"url": "http://127.0.0.1:9"}, "state_dir": str(folder), "pools": [pool]}
    path.write_text(yaml.safe_dump(said | {"hosts": list(hosts)}))
    return path


async def with_machine(settings: Settings, host: str) -> None:
    async with open_ledger(settings) as ledger:
        await ledger.reserve(MACHINE, "small", host, Resources(2, 1024, 64), "0" * 64)
        await ledger.move_machine(MACHINE, MachineState.CREATING, room_held=True)


async def orders(config: Path) -> dict[str, HostOrder]:
    async with open_ledger(load_settings(config)) as ledger:
        return await ledger.host_orders()


async def command(*arguments: str, config: Path) -> str:
    done = await asyncio.to_thread(run, *arguments, "--config", str(config))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_each_host_says_what_it_has_and_whether_it_answers(tmp_path: Path) -> None:
    async with FakeFlintlock() as fake:
        config = configured(
            tmp_path,
            elsewhere("kvm-1", fake.address, labels={"zone": "a"}, overcommit_vcpu=2),
            elsewhere("kvm-2", "127.0.0.1:9", timeout="1s"),
        )
        await with_machine(load_settings(config), "kvm-1")
        await command("cordon", "kvm-1", "--reason", "new kernel", config=config)
        shown = json.loads(await command("hosts", "--json", config=config))
        table = await command("hosts", config=config)

    up, down = shown
    assert (up["state"], up["why"], up["machines"], up["jobs"]) == ("cordoned", "new kernel", 1, 0)
    assert up["used"] == {"vcpu": 2, "memory_mib": 1024, "disk_mib": 64}
    assert up["room"] == {"vcpu": 16, "memory_mib": 16384, "disk_mib": 65536}
    assert (down["state"], "127.0.0.1:9" in down["why"]) == ("unreachable", True)
    assert "zone: a" in table
    assert "1024/16384" in table


async def test_what_an_operator_says_is_kept_until_it_is_taken_back(tmp_path: Path) -> None:
    config = configured(tmp_path, elsewhere("kvm-1", "127.0.0.1:9"), elsewhere("kvm-2", "127.0.0.1:9"))
    async with open_ledger(load_settings(config)):
        pass

    await command("drain", "kvm-1", "kvm-2", "--no-wait", "-r", "new disks", config=config)
    assert {host: order.use for host, order in (await orders(config)).items()} == {
        "kvm-1": HostUse.DRAINING,
        "kvm-2": HostUse.DRAINING,
    }
    await command("uncordon", "kvm-1", config=config)
    await command("believe", "kvm-2", config=config)
    said = await orders(config)
    assert (said["kvm-1"].use, said["kvm-2"].use) == (HostUse.NORMAL, HostUse.DRAINING)
    assert (said["kvm-1"].believed_at, said["kvm-2"].believed_at is not None) == (None, True)


async def test_drain_waits_until_nothing_is_left(tmp_path: Path) -> None:
    config = configured(tmp_path, elsewhere("kvm-1", "127.0.0.1:9"))
    settings = load_settings(config)
    await with_machine(settings, "kvm-1")
    draining = asyncio.create_task(command("drain", "kvm-1", config=config))
    async with open_ledger(settings) as ledger:
        while (await ledger.host_orders()).get("kvm-1") is None:
            await asyncio.sleep(0.05)
        assert not draining.done()
        await ledger.move_machine(MACHINE, MachineState.RETIRING)
        await ledger.release_room(MACHINE)
        await ledger.move_machine(MACHINE, MachineState.GONE)

    assert "kvm-1: empty" in await draining


@pytest.mark.parametrize("verb", ["cordon", "uncordon", "drain", "believe"])
def test_a_host_that_there_is_not_is_named(tmp_path: Path, verb: str) -> None:
    config = configured(tmp_path, elsewhere("kvm-1", "127.0.0.1:9"))

    refused = run(verb, "kvm-9", "--config", str(config))

    assert refused.returncode == 2
    assert "there is no host 'kvm-9'" in refused.stderr
    assert "The hosts are: kvm-1" in refused.stderr


async def test_without_a_service_there_is_nothing_to_see(tmp_path: Path) -> None:
    refused = run("hosts", "--config", str(configured(tmp_path, elsewhere("kvm-1", "127.0.0.1:9"))))

    assert refused.returncode == 1
    assert "firerunner serve" in refused.stderr


async def test_guests_of_other_hosts_find_the_gate_by_https(tmp_path: Path) -> None:
    ours, port = authority(tmp_path), free_port()
    chain, key = ours.server(tmp_path, ["127.0.0.1"])
    (tmp_path / "strange").mkdir()
    strange = authority(tmp_path / "strange")
    async with FakeFlintlock() as fake:
        listen = {
            "web": f"127.0.0.1:{free_port()}",
            "gate": f"127.0.0.1:{free_port()}",
            "gate_https": f"127.0.0.1:{port}",
            "gate_cert_file": str(chain),
            "gate_key_file": str(key),
            "gate_ca_file": str(ours.file),
        }
        host = elsewhere("kvm-1", fake.address, gate_url=f"https://127.0.0.1:{port}")
        async with serving(tmp_path, listen=listen, hosts=[host]) as it:
            settings = load_settings(it.config)
            found = await examine_hosts(settings)
            of_another = settings.listen.model_copy(update={"gate_ca_file": strange.file})
            unknown = await examine_hosts(settings.model_copy(update={"listen": of_another}))
            (view,) = await hosts_now(settings)
            web = host | {"gate_url": f"http://{listen['web']}"}
            wrong = await examine_hosts(settings_with(tmp_path, web, it.config))

    assert gate_level(found) is Level.OK
    assert gate_level(unknown) is Level.WARN
    assert gate_level(wrong) is Level.FAIL
    assert (view.state, view.room) == ("normal", Resources(8, 16384, 65536))


def settings_with(folder: Path, host: dict[str, Any], config: Path) -> Settings:
    said = yaml.safe_load(config.read_text()) | {"hosts": [host]}
    other = folder / "other.yaml"
    other.write_text(yaml.safe_dump(said))
    return load_settings(other)


def gate_level(findings: list[Finding]) -> Level:
    return next(finding.level for finding in findings if "gate" in finding.what)
