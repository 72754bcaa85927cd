"""The sums of the sizing page are those of the code."""

from __future__ import annotations

import math

import pytest

from firerunner.machines.qemu.command import OVERHEAD_MIB, TRANSLATION_CACHE_MIB
from firerunner.machines.qemu.room import SHARE_PERCENT, VCPU_PER_CORE
from firerunner.machines.spec import Resources
from firerunner.planning.warm import Auto, enough
from firerunner.settings import HostSettings, Settings
from tests.docs.pages import ROOT, rows_of

PAGE = (ROOT / "docs" / "sizing.md").read_text()
HOSTS = list(rows_of(PAGE, "cores"))
WARM = list(rows_of(PAGE, "load"))
KINDS = ("vCPU", "memory", "disk")


@pytest.mark.parametrize("row", HOSTS, ids="-".join)
def test_so_many_machines_a_host_holds(row: list[str]) -> None:
    cores, memory, disk, vcpu, memory_mib, disk_mib, machines = map(int, row[:7])
    given = Resources(VCPU_PER_CORE * cores, memory * SHARE_PERCENT // 100, disk * SHARE_PERCENT // 100)
    need = Resources(vcpu, memory_mib, disk_mib)
    counts = [given.vcpu // vcpu, given.memory_mib // memory_mib, given.disk_mib // disk_mib]

    assert min(counts) == machines
    assert Resources(machines * vcpu, machines * memory_mib, machines * disk_mib).fits_in(given)
    assert not need.fits_in(given - Resources(machines * vcpu, machines * memory_mib, machines * disk_mib))
    assert KINDS[counts.index(min(counts))] == row[7]


@pytest.mark.parametrize("row", WARM, ids=lambda row: row[0])
def test_so_many_warm_machines_are_enough(row: list[str]) -> None:
    load, *told = row

    assert [enough(Auto(misses, 1000), float(load), 1.0) for misses in (0.2, 0.05, 0.01)] == list(
        map(int, told)
    )


def test_the_figures_in_the_text_are_those_of_the_code() -> None:
    small = math.floor((65536 - 2048) * 1024 / (1024 + OVERHEAD_MIB))
    host = HostSettings()

    assert f"{VCPU_PER_CORE} for each core" in PAGE
    assert f"{SHARE_PERCENT} % of the computer's" in PAGE
    assert f"up to {OVERHEAD_MIB} MiB besides, and {TRANSLATION_CACHE_MIB} MiB more under emulation" in PAGE
    assert f"{small}, which is {small // 1024} machines" in PAGE
    assert f"`keep_free_mib` ({host.keep_free_mib})" in PAGE
    assert f"`database.keep_days` ({Settings.model_fields['database'].default.keep_days:.0f})" in PAGE


def test_the_example_adds_up() -> None:
    each = Resources(2, 4096, 0)
    given = Resources(16 * VCPU_PER_CORE, 96 * 1024 * SHARE_PERCENT // 100, 0)
    at_once = 3000 * 6 / 480

    assert f"= {at_once:.1f} on average" in PAGE
    assert f"75 × (4096 + {OVERHEAD_MIB}) MiB = {75 * (4096 + OVERHEAD_MIB) / 1024:.0f} GiB" in PAGE
    assert (
        f"{given.vcpu} vCPU and {given.memory_mib} MiB, so {given.vcpu // each.vcpu} machines by vCPU" in PAGE
    )
    assert f"{given.memory_mib // each.memory_mib} by memory" in PAGE
    assert 5 * min(given.vcpu // each.vcpu, given.memory_mib // each.memory_mib) >= 75
    assert enough(Auto(0.05, 1000), 3000 / 28800, 10.0) == 4
