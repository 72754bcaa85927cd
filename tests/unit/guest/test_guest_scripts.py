"""The guest's scripts are clean, and agree with the initramfs that carries them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from firerunner.guest.scripts import GuestScript
from firerunner.images.initramfs import APPLETS, MODULES

LOADED_DEPENDENCIES = {"virtio_ring", "virtio", "failover", "net_failover"}


@pytest.mark.parametrize("script", GuestScript)
def test_shellcheck_has_nothing_to_say(script: GuestScript, tmp_path: Path) -> None:
    path = tmp_path / script.value
    path.write_bytes(script.read())

    said = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True, check=False)

    assert said.stdout + said.stderr == ""


def test_the_first_stage_loads_the_modules_that_the_initramfs_has() -> None:
    text = (GuestScript.INIT.read() + GuestScript.BOOT_SOURCE.read()).decode()
    loaded = {
        name for line in re.findall(r"\bload ([a-z_ -]+)$", text, re.MULTILINE) for name in line.split()
    }

    assert loaded == {*MODULES, *LOADED_DEPENDENCIES}


def test_the_first_stage_uses_the_applets_that_the_initramfs_has() -> None:
    text = (GuestScript.INIT.read() + GuestScript.BOOT_SOURCE.read()).decode()

    unused = [applet for applet in APPLETS if not re.search(rf"\b{applet} ", text)]

    assert unused == []


def test_boot_parameters_have_one_source() -> None:
    users = [script for script in GuestScript if b"fw_cfg" in script.read()]

    assert users == [GuestScript.BOOT_SOURCE]


def test_the_stand_in_says_that_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / "gitlab-runner"
    path.write_bytes(GuestScript.STAND_IN.read())

    said = subprocess.run(["bash", str(path), "--version"], capture_output=True, text=True, check=True)

    assert "FireRunner stand-in" in said.stdout
