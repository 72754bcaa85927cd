"""`deploy/systemd`: what systemd says of the units, and that each exposure left has its reason there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from firerunner.settings import load_settings
from tests.deploy.computer import ROOT, computer, exposures

UNITS = ROOT / "deploy" / "systemd"
THRESHOLD = "25"
"""systemd counts in tenths."""


def test_systemd_has_nothing_to_say_of_them() -> None:
    with computer() as made:
        made.says(
            "mkdir -p /opt/firerunner/current/bin; cd /opt/firerunner/current/bin;"
            "printf '#!/bin/sh\\n' > firerunner; chmod 755 firerunner"
        )
        names = [path.name for path in UNITS.iterdir() if path.suffix in {".service", ".socket"}]
        made.run("cp", *(str(UNITS / name) for name in names), "/etc/systemd/system")

        said = made.run("systemd-analyze", "verify", *(f"/etc/systemd/system/{name}" for name in names))

        assert sorted(names) == ["firerunner-gate.socket", "firerunner-web.socket", "firerunner.service"]
        assert said.stdout + said.stderr == ""


def test_the_service_is_exposed_to_2_5_at_most_and_each_item_has_its_reason() -> None:
    unit = UNITS / "firerunner.service"

    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={THRESHOLD}", str(unit)],
        check=False,
        capture_output=True,
        text=True,
    )

    assert said.returncode == 0, said.stdout[-200:]
    reasons = " ".join(line for line in unit.read_text().splitlines() if line.startswith("#"))
    assert [item for item in exposures(unit) if f"{item.partition('=')[0]}=" not in reasons] == []


def test_the_score_notices_a_missing_wall(tmp_path: Path) -> None:
    bare = tmp_path / "firerunner.service"
    text = (UNITS / "firerunner.service").read_text()
    bare.write_text(text.replace("NoNewPrivileges=yes\n", "").replace("ProtectSystem=strict\n", ""))

    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={THRESHOLD}", str(bare)],
        check=False,
        capture_output=True,
    )

    assert said.returncode != 0


@pytest.mark.parametrize(
    "wanted", ["KillMode=process", "OOMPolicy=continue", "Restart=on-failure", "StartLimitIntervalSec=0"]
)
def test_what_lets_machines_outlive_the_service_is_there(wanted: str) -> None:
    assert wanted in (UNITS / "firerunner.service").read_text().splitlines()


def test_what_would_end_qemu_is_not_there() -> None:
    said = [
        line for line in (UNITS / "firerunner.service").read_text().splitlines() if not line.startswith("#")
    ]

    assert not [
        line for line in said if re.match(r"(MemoryDenyWriteExecute|PrivateDevices|PrivateUsers)=", line)
    ]


def test_the_example_is_a_right_configuration(tmp_path: Path) -> None:
    shutil.copy(UNITS / "config.example.yaml", tmp_path / "config.yaml")
    (tmp_path / "small.token").write_text("glrt-example\n")

    assert [pool.name for pool in load_settings(tmp_path / "config.yaml").pools] == ["small"]
