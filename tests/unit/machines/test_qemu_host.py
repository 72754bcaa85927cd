"""What is kept of this computer's abilities, and when it is found out again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from firerunner.machines.qemu import host as hosts
from firerunner.machines.qemu.command import Accelerator
from firerunner.machines.qemu.host import Host
from firerunner.machines.spec import ImageFiles


def test_a_device_that_comes_later_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bool] = []
    device = tmp_path / "kvm"

    def find(*_about: Any) -> Accelerator:
        tried.append(device.exists())
        return Accelerator("kvm" if device.exists() else "tcg", "for the test")

    monkeypatch.setattr(hosts, "KVM_DEVICE", device)
    monkeypatch.setattr(hosts, "find_accelerator", find)
    monkeypatch.setattr(hosts, "measure_tsc_khz", lambda: 1_000_000)
    qemu, kernel = tmp_path / "qemu", tmp_path / "kernel"
    qemu.write_text("#!/bin/sh\necho QEMU 1\n")
    qemu.chmod(0o755)
    kernel.touch()
    image = ImageFiles("digest", kernel, kernel, kernel)

    kinds = [Host(tmp_path).accelerator(str(qemu), image).kind for _ in range(2)]
    device.touch()
    kinds += [Host(tmp_path).accelerator(str(qemu), image).kind for _ in range(2)]

    assert kinds == ["tcg", "tcg", "kvm", "kvm"]
    assert tried == [False, True]
