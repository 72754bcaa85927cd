"""What the qemu driver promises beyond the protocol: confinement, deadlines, clean failures."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from firerunner.errors import BootFailed, HostUnusable, MachineError, NoRoom
from firerunner.machines.qemu import QemuDriver
from firerunner.machines.qemu.cgroups import RUNNING_WEIGHTS
from firerunner.machines.spec import Destination, Resources, Sighting
from tests.contract import outside
from tests.contract.gate import serving
from tests.contract.kits import QemuKit
from tests.contract.outside import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

ONE, TWO = "fr-qemudriver01", "fr-qemudriver02"


async def test_a_killed_keeper_takes_its_vmm_along(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    await driver.create(qemu_kit.spec(ONE))
    qemu_kit.note_namespaces()
    assert len(qemu_kit.namespaces) == 1

    os.kill(qemu_kit.keeper(ONE), signal.SIGKILL)

    seen = await eventually(driver.list, lambda seen: not seen[0].alive)
    assert seen == [Sighting(ONE, alive=False, detail="its keeper was killed")]
    await driver.destroy(ONE)
    assert qemu_kit.leftovers() == []


async def test_a_stopped_keeper_ends_its_machine_and_says_so(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    await driver.create(qemu_kit.spec(ONE))

    os.kill(qemu_kit.keeper(ONE), signal.SIGTERM)

    seen = await eventually(driver.list, lambda seen: not seen[0].alive)
    assert seen[0].detail == "stopped with its keeper by SIGTERM"


async def test_a_machine_ends_when_its_lifetime_is_over(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    await driver.create(replace(qemu_kit.spec(ONE), max_lifetime_s=0.5))

    seen = await eventually(driver.list, lambda seen: not seen[0].alive)

    assert seen[0].detail == "lifetime over"


async def test_a_vmm_has_a_network_of_its_own_and_no_rights(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    await driver.create(qemu_kit.spec(ONE))
    await driver.create(qemu_kit.spec(TWO))

    vmms = [qemu_kit.vmm(ONE), qemu_kit.vmm(TWO)]

    namespaces = {outside.network_namespace(pid) for pid in [*vmms, os.getpid()]}
    assert len(namespaces) == 3
    for pid in vmms:
        facts = outside.fields(pid)
        assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
        assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
        assert int(facts["CapEff"], 16) == int(facts["CapPrm"], 16) == 0
    limits = Path("/proc", str(vmms[0]), "limits").read_text()
    assert "Max core file size        0                    0" in limits


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give each machine a user of its own")
async def test_each_machine_has_a_user_of_its_own(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    await driver.create(qemu_kit.spec(ONE))
    await driver.create(qemu_kit.spec(TWO))

    facts = [outside.fields(qemu_kit.vmm(machine_id)) for machine_id in (ONE, TWO)]

    users = {int(user) for each in facts for user in each["Uid"].split()}
    assert len(users) == 2
    assert min(users) >= 1_900_000_000
    assert [each["Groups"] for each in facts] == ["", ""]


async def test_the_credential_is_in_no_file_command_line_or_environment(
    qemu_kit: QemuKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRERUNNER_SECRET_OF_THE_CONTROLLER", "not for machines")
    driver = qemu_kit.driver()
    spec = qemu_kit.spec(ONE)
    await driver.create(spec)

    pids = [qemu_kit.keeper(ONE), qemu_kit.vmm(ONE)]
    seen = b"".join(
        Path("/proc", str(pid), name).read_bytes() for pid in pids for name in ("cmdline", "environ")
    )
    files = [path for path in qemu_kit.state_dir.rglob("*") if path.is_file() and path.name != "disk.raw"]
    seen += b"".join(path.read_bytes() for path in files)

    assert spec.credential.encode() not in seen
    assert b"not for machines" not in seen


async def test_limits_hold_a_machine_where_the_host_offers_them(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    await driver.create(qemu_kit.spec(ONE))

    groups = outside.control_groups([ONE])

    inside = {int(pid) for group in groups for pid in (group / "cgroup.procs").read_text().split()}
    expected = {qemu_kit.keeper(ONE), qemu_kit.vmm(ONE)} if driver.abilities().limiting_controllers else set()
    assert inside == expected


async def test_a_machine_that_is_up_gives_way_to_those_that_start(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    await driver.create(qemu_kit.spec(ONE))

    async def weights() -> list[str]:
        groups = outside.control_groups([ONE])
        files = [group / name for group in groups for name, _ in RUNNING_WEIGHTS]
        return [path.read_text().strip() for path in files if path.exists()]

    lesser = {text for _, text in RUNNING_WEIGHTS}
    seen = await eventually(weights, lambda seen: set(seen) <= lesser)

    assert len(seen) == ("cpu" in driver.abilities().limiting_controllers)


async def test_drivers_with_different_state_do_not_see_each_other(qemu_kit: QemuKit, tmp_path: Path) -> None:
    driver, stranger = qemu_kit.driver(), QemuDriver(tmp_path, accelerator="tcg")
    await driver.create(qemu_kit.spec(ONE))

    await stranger.destroy(ONE)

    assert await stranger.list() == []
    assert await driver.list() == [Sighting(ONE, alive=True)]


async def test_a_half_made_machine_is_seen_and_made_anew(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    directory = qemu_kit.state_dir / "machines" / ONE
    directory.mkdir(parents=True)
    (directory / "disk.raw").write_text("cut short")
    assert await driver.list() == [Sighting(ONE, alive=False, detail="half made")]

    await driver.create(qemu_kit.spec(ONE))

    assert await driver.list() == [Sighting(ONE, alive=True)]


async def test_a_full_host_says_how_much_is_left(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver(vcpu=1)
    await driver.create(qemu_kit.spec(ONE))

    with pytest.raises(NoRoom, match=r"no room for 1 vCPU.*: 0 vCPU, .* left of 1 vCPU"):
        await driver.create(qemu_kit.spec(TWO))

    assert [seen.machine_id for seen in await driver.list()] == [ONE]


async def test_a_kernel_that_is_none_fails_with_the_words_of_qemu(qemu_kit: QemuKit, tmp_path: Path) -> None:
    driver = qemu_kit.driver()
    kernel = tmp_path / "kernel"
    kernel.write_text("not a kernel")
    spec = qemu_kit.spec(ONE)

    with pytest.raises(BootFailed, match="kernel"):
        await driver.create(replace(spec, image=replace(spec.image, kernel=kernel)))

    assert await driver.list() == []
    assert qemu_kit.leftovers() == []


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"gate": "nowhere"}, MachineError, "cannot read 'nowhere' as host:port"),
        ({"credential": "two words"}, MachineError, "not plain text"),
        ({"resources": Resources(0, 128, 64)}, MachineError, "at least 1 of each"),
        ({"egress": (Destination("127.0.0.1", 80),)}, MachineError, "means something else inside"),
    ],
)
async def test_a_specification_without_sense_leaves_nothing(
    qemu_kit: QemuKit, change: dict[str, object], error: type[MachineError], words: str
) -> None:
    driver = qemu_kit.driver()

    with pytest.raises(error, match=words):
        await driver.create(replace(qemu_kit.spec(ONE), **change))  # type: ignore[arg-type]

    assert qemu_kit.leftovers() == []


async def test_a_missing_program_is_named(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver(qemu="qemu-that-is-not-there")

    with pytest.raises(HostUnusable, match="qemu-that-is-not-there is not installed"):
        await driver.create(qemu_kit.spec(ONE))

    problems = await driver.check()
    assert [each.what for each in problems] == ["qemu-that-is-not-there is not installed"]
    assert qemu_kit.leftovers() == []


async def test_a_missing_image_file_is_named(qemu_kit: QemuKit, tmp_path: Path) -> None:
    driver = qemu_kit.driver()
    spec = qemu_kit.spec(ONE)

    with pytest.raises(HostUnusable, match=r"image test-guest: .*gone cannot be read"):
        await driver.create(replace(spec, image=replace(spec.image, root=tmp_path / "gone")))

    assert qemu_kit.leftovers() == []


async def test_this_computer_has_what_the_driver_needs(qemu_kit: QemuKit) -> None:
    assert await qemu_kit.driver().check() == ()


async def test_a_gate_that_is_away_is_waited_for(qemu_kit: QemuKit) -> None:
    driver = qemu_kit.driver()
    async with serving("echo patient") as gate:
        address = gate.address
    await driver.create(qemu_kit.spec(ONE, address))
    await eventually(lambda: driver.console(ONE), lambda text: b"is up" in text)

    async with serving("echo patient", port=int(address.rpartition(":")[2])) as gate:
        assert await gate.report.get() == "patient\n"

    assert [request.split()[0] for request in gate.requests] == ["POST", "POST"]


async def test_the_accelerator_was_chosen_for_a_reason(qemu_kit: QemuKit) -> None:
    driver = QemuDriver(qemu_kit.state_dir)
    assert await driver.accelerator() is None

    found = await driver.accelerator(qemu_kit.image)

    assert found is not None
    assert found.reason
    assert await driver.accelerator() == found == driver.abilities().accelerator
    assert await QemuDriver(qemu_kit.state_dir).accelerator(qemu_kit.image) == found
