"""The decisions of the qemu driver that need no machine."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.errors import NoRoom
from firerunner.machines.qemu import order as orders
from firerunner.machines.qemu import processes
from firerunner.machines.qemu.accelerator import judge
from firerunner.machines.qemu.cgroups import (
    Cgroups,
    Hierarchy,
    Limits,
    find_hierarchies,
    give_way,
    settings,
)
from firerunner.machines.qemu.command import Accelerator, machine_command, selftest_command
from firerunner.machines.qemu.disks import Disks
from firerunner.machines.qemu.ending import why_ended
from firerunner.machines.qemu.identity import FIRST_UID, UIDS, is_mapped
from firerunner.machines.qemu.keeper import Keeper
from firerunner.machines.qemu.local import sight
from firerunner.machines.qemu.order import Identity, Listener, Order, Saved, Uplink
from firerunner.machines.qemu.processes import Role, role_in
from firerunner.machines.qemu.room import Allowance, check_room, measure_capacity
from firerunner.machines.qemu.tsc import khz_in_cpuinfo
from firerunner.machines.spec import Resources, Sighting

ID = "fr-0123456789ab"
MACHINES = Path("/state/machines")
TCG = Accelerator("tcg", "for the test")


# The command line


def test_the_command_line_names_no_file_and_no_secret_of_the_machine() -> None:
    argv = machine_command("/usr/bin/qemu", MACHINES / ID, TCG, 2_596_099, vcpu=2, memory_mib=512)

    paths = [
        word for word in " ".join(argv[3:]).replace("=", " ").replace(",", " ").split() if word[0] == "/"
    ]
    assert all(path.startswith(("/proc/self/fd/", "/dev/fdset/")) for path in paths)
    assert argv[argv.index("-append") + 1] == (
        "console=ttyS0 quiet panic=-1 reboot=t no_timer_check cryptomgr.notests tsc_early_khz=2596099 "
        "fr.address=10.0.2.15/24 fr.gateway=10.0.2.2 fr.resolver=10.0.2.2 fr.root=vda fr.overlay=vdb"
    )
    assert {"-no-reboot", "-nodefaults", "-no-user-config"} <= set(argv)
    assert argv[argv.index("-smp") + 1] == "2"
    assert argv[argv.index("-m") + 1] == "512"
    assert "spawn=deny" in argv[argv.index("-sandbox") + 1]


def test_kvm_takes_the_hosts_processor() -> None:
    argv = selftest_command("/usr/bin/qemu", 1000, "K", "I")

    assert argv[argv.index("-accel") + 1] == "kvm"
    assert argv[argv.index("-cpu") + 1] == "host"
    assert argv[argv.index("-append") + 1].endswith("fr.selftest=1")


def an_order() -> Order:
    return Order(
        machine_id=ID,
        directory="/d",
        argv=["qemu"],
        kernel="/k",
        initramfs="/i",
        root="/r",
        disk="/w",
        boot="credential=x\n",
        woken_by="fr-x\n",
        host_address="10.0.2.2",
        guest_address="10.0.2.15",
        listeners=[Listener("10.0.2.2", 80, "127.0.0.1", 8080)],
        names={"gitlab.test": "10.0.2.100"},
        uplink=Uplink("/n", "table", [("example.com", None), ("example.org", 443)], resolves=True),
        identity=Identity(1, 2, [3]),
        cgroup_procs=["/c"],
        memory_limit_mib=512,
        max_lifetime_s=1.5,
        saved=Saved(10, 11, 12, restore=True, key="0" * 32),
        facts={"image": "x"},
    )


def test_an_order_survives_its_way_to_the_keeper() -> None:
    order = an_order()

    assert orders.from_json(orders.to_json(order)) == order
    bare = order._replace(identity=None, uplink=None)
    assert orders.from_json(orders.to_json(bare)) == bare


def test_a_keeper_that_cannot_write_says_so_to_who_started_it(tmp_path: Path) -> None:
    nowhere = tmp_path / "gone"
    told, report = os.pipe()

    Keeper(an_order()._replace(directory=str(nowhere)), report).run()

    answer = json.loads(os.read(told, 4096))
    os.close(told)
    assert (answer["host"], str(nowhere) in answer["failed"]) == (True, True)


# Why a machine ended


@pytest.mark.parametrize(
    ("status", "seen", "words"),
    [
        (0, {"shutdown": "guest-reset"}, "guest reboot"),
        (0, {"shutdown": "guest-shutdown"}, "guest poweroff"),
        (0, {"shutdown": "host-signal"}, "VMM told to end by a signal"),
        (0, {"shutdown": "something-new"}, "VMM shut down: something-new"),
        (0, {}, "VMM ended without a reason"),
        (signal.SIGKILL, {}, "VMM killed by signal 9"),
        (signal.SIGSEGV, {"memory_limit_mib": 640}, "VMM killed by signal 11"),
        (
            signal.SIGKILL,
            {"memory_limit_mib": 640},
            "VMM killed by signal 9: over its memory limit of 640 MiB",
        ),
        (signal.SIGKILL, {"told": "lifetime over", "memory_limit_mib": 640}, "lifetime over"),
        (
            1 << 8,
            {"stderr": "first\nqemu: no such thing\n"},
            "VMM failed with exit status 1: qemu: no such thing",
        ),
        (1 << 8, {"shutdown": "guest-reset"}, "VMM failed with exit status 1: it said nothing"),
    ],
)
def test_the_reason_is_the_nearest_cause(status: int, seen: dict[str, object], words: str) -> None:
    assert why_ended(int(status), **seen) == words  # type: ignore[arg-type]


# What is seen of a machine


RUNNING = {"phase": "running", "boot_id": "now", "detail": ""}


@pytest.mark.parametrize(
    ("roles", "state", "alive", "detail"),
    [
        ({Role.KEEPER, Role.VMM}, RUNNING, True, ""),
        ({Role.VMM}, RUNNING, True, ""),
        ({Role.KEEPER}, RUNNING | {"phase": "starting"}, True, ""),
        ({Role.KEEPER}, RUNNING | {"phase": "ended", "detail": "guest reboot"}, False, "guest reboot"),
        (set(), RUNNING | {"phase": "ended", "detail": "guest reboot"}, False, "guest reboot"),
        (set(), RUNNING, False, "its keeper was killed"),
        (set(), RUNNING | {"boot_id": "before"}, False, "the computer was restarted"),
        ({Role.VMM}, None, True, "its state file is missing"),
        (set(), None, False, "half made"),
    ],
)
def test_a_sighting_says_what_processes_and_state_file_tell_together(
    roles: set[Role], state: dict[str, object] | None, alive: bool, detail: str
) -> None:
    assert sight(ID, roles, state, "now") == Sighting(ID, alive, detail)


# Whose process it is


def test_keeper_and_vmm_are_known_by_their_command_lines() -> None:
    keeper = processes.keeper_command("/usr/bin/python3", MACHINES / ID)
    vmm = machine_command("/usr/bin/qemu", MACHINES / ID, TCG, 1, vcpu=1, memory_mib=1)

    assert role_in(keeper, MACHINES) == (ID, Role.KEEPER)
    assert role_in(vmm, MACHINES) == (ID, Role.VMM)
    assert role_in(keeper, Path("/other/machines")) is None
    assert role_in(vmm, Path("/other/machines")) is None


def test_a_state_directory_with_a_comma_is_no_trouble() -> None:
    machines = Path("/a,b/machines")
    vmm = machine_command("/usr/bin/qemu", machines / ID, TCG, 1, vcpu=1, memory_mib=1)

    assert vmm[2] == f"guest=/a,,b/machines/{ID},debug-threads=on"
    assert role_in(vmm, machines) == (ID, Role.VMM)


@pytest.mark.parametrize(
    "argv",
    [
        ["less", f"/state/machines/{ID}/console.log"],
        ["vi", "-m", processes.KEEPER_MODULE, f"/state/machines/{ID}/x"],
        ["python", "-m", "another.module", f"/state/machines/{ID}"],
        ["python", "-I", "-m", processes.KEEPER_MODULE, "/state/machines/fr-short"],
        ["qemu", "-name", f"guest=/state/machines/{ID}", "-m", "1"],
        ["qemu", "-name", "guest=firerunner-selftest", "-m", "1"],
        [],
        [""],
    ],
)
def test_other_processes_are_not_ours(argv: list[str]) -> None:
    assert role_in(argv, MACHINES) is None


@given(st.lists(st.text()))
def test_no_command_line_upsets_the_search(argv: list[str]) -> None:
    role_in(argv, MACHINES)


# Users


@pytest.mark.parametrize(
    ("uid_map", "mapped"),
    [
        ("         0          0 4294967295\n", True),
        ("0 1000 1\n1 100000 65536\n", False),
        (f"0 0 1000\n{FIRST_UID} 5 {UIDS}\n", True),
        (f"{FIRST_UID} 5 {UIDS - 1}\n", False),
        ("", False),
    ],
)
def test_users_of_our_range_must_exist_here(uid_map: str, mapped: bool) -> None:
    assert is_mapped(uid_map) is mapped


# Control groups


def test_hierarchies_are_found_with_the_controllers_of_ours(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    (tmp_path / "two/cgroup.controllers").write_text("cpuset cpu io memory pids")
    mountinfo = (
        f"30 1 0:26 / {tmp_path}/two rw shared:9 - cgroup2 cgroup2 rw\n"
        f"31 1 0:27 / {tmp_path}/one rw - cgroup cgroup rw,cpu,cpuacct\n"
        f"32 1 0:28 / {tmp_path}/gone rw - cgroup cgroup rw,memory\n"
        "33 1 0:29 / /proc rw - proc proc rw\n"
    )

    assert find_hierarchies(mountinfo) == [
        Hierarchy(tmp_path / "two", 2, ("memory", "pids", "cpu")),
        Hierarchy(tmp_path / "one", 1, ("cpu",)),
    ]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            2,
            {
                "memory.max": "671088640",
                "memory.swap.max": "0",
                "pids.max": "512",
                "cpu.max": "200000 100000",
            },
        ),
        (
            1,
            {
                "memory.limit_in_bytes": "671088640",
                "pids.max": "512",
                "cpu.cfs_period_us": "100000",
                "cpu.cfs_quota_us": "200000",
            },
        ),
    ],
)
def test_limits_are_written_as_each_version_wants(version: int, expected: dict[str, str]) -> None:
    hierarchy = Hierarchy(Path("/c"), version, ("memory", "pids", "cpu"))

    assert dict(settings(hierarchy, Limits(memory_mib=640, cores=2))) == expected


def test_groups_are_made_found_and_removed_with_those_above(tmp_path: Path) -> None:
    groups = Cgroups("tag", [Hierarchy(tmp_path, 1, ("pids",))])

    (procs,) = groups.make(ID, Limits(640, 2))
    assert Path(procs) == tmp_path / "firerunner/tag" / ID / "cgroup.procs"
    assert groups.machine_ids() == {ID}
    (tmp_path / "firerunner/tag" / ID / "pids.max").unlink()  # the kernel's own files go with the group

    assert groups.remove(ID)
    assert groups.remove(ID)
    assert list(tmp_path.iterdir()) == []


def test_a_group_in_use_is_not_said_to_be_gone(tmp_path: Path) -> None:
    groups = Cgroups("tag", [Hierarchy(tmp_path, 1, ("pids",))])
    groups.make(ID, Limits(640, 2))

    assert not groups.remove(ID, timeout_s=0)


def test_a_machine_that_is_up_weighs_less_in_the_hierarchy_that_weighs(tmp_path: Path) -> None:
    groups = []
    for name, weight in (("one", "cpu.shares"), ("two", "cpu.weight"), ("memory", None)):
        groups.append(tmp_path / name)
        groups[-1].mkdir()
        groups[-1].chmod(0o700)
        if weight is not None:
            (groups[-1] / weight).write_text("1024")

    give_way([str(group / "cgroup.procs") for group in groups])

    assert (groups[0] / "cpu.shares").read_text() == "215"
    assert (groups[1] / "cpu.weight").read_text() == "21"


# Room


def test_no_room_says_what_is_left() -> None:
    with pytest.raises(NoRoom, match="no room for 2 vCPU, 512 MiB memory, 10 MiB disk: 1 vCPU, 512 MiB"):
        check_room(Resources(2, 512, 10), [Resources(3, 512, 0)], Resources(4, 1024, 100))


resources = st.builds(Resources, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


@given(resources, st.lists(resources), resources)
def test_room_is_given_if_and_only_if_all_fits(
    wanted: Resources, taken: list[Resources], capacity: Resources
) -> None:
    fits = sum(taken, start=wanted).fits_in(capacity)

    try:
        check_room(wanted, taken, capacity)
    except NoRoom:
        assert not fits
    else:
        assert fits


def disks_in(machines: Path) -> Disks:
    return Disks(machines, None, "tag", 0)


def test_capacity_is_measured_unless_the_operator_says(tmp_path: Path) -> None:
    measured = measure_capacity(disks_in(tmp_path / "not" / "yet" / "there"), Allowance())
    chosen = measure_capacity(disks_in(tmp_path), Allowance(vcpu=3, disk_mib=7))

    assert measured.vcpu == 2 * len(os.sched_getaffinity(0))
    assert measured.memory_mib > 0
    assert measured.disk_mib > 0
    assert (chosen.vcpu, chosen.memory_mib, chosen.disk_mib) == (3, measured.memory_mib, 7)


# The accelerator and the time stamp counter


@pytest.mark.parametrize(
    ("console", "stderr", "kind", "reason"),
    [
        (b"... FIRERUNNER-SELFTEST-OK\r\n", b"", "kvm", "a guest has booted with it"),
        (b"", b"", "tcg", "a guest did not boot with /dev/kvm within 10 s"),
        (
            b"",
            b"Could not access KVM kernel module: no\nqemu-system-x86_64: failed to initialize kvm\n",
            "tcg",
            "QEMU cannot use /dev/kvm: qemu-system-x86_64: failed to initialize kvm",
        ),
    ],
)
def test_kvm_is_used_only_if_a_guest_booted(console: bytes, stderr: bytes, kind: str, reason: str) -> None:
    assert judge(console, stderr) == Accelerator(kind, reason)


def test_the_rate_in_cpuinfo_is_the_last_resort() -> None:
    assert khz_in_cpuinfo("model name\t: x\ncpu MHz\t\t: 2596.099\n") == 2_596_099
    with pytest.raises(ValueError, match="cpu MHz"):
        khz_in_cpuinfo("processor: 0\n")
