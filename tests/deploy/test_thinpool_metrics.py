"""`deploy/flintlock/thinpool-metrics.sh`: what `lvs` says becomes metrics that the alert understands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "flintlock" / "thinpool-metrics.sh"
EXPECTED = (
    'firerunner_thinpool_used_ratio{group="firerunner",part="data"} 0.8612\n'
    'firerunner_thinpool_used_ratio{group="firerunner",part="metadata"} 0.0750\n'
)


def run(folder: Path, lvs: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With an `lvs` of that body."""
    fake = folder / "lvs"
    fake.write_text(f"#!/bin/sh\n{lvs}\n")
    fake.chmod(0o755)
    return subprocess.run(
        [str(SCRIPT), *arguments],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_file_is_written_whole_and_prometheus_takes_it(tmp_path: Path) -> None:
    file = tmp_path / "firerunner.prom"

    done = run(tmp_path, "echo '  86.12,7.50'", str(file))

    assert (done.returncode, done.stderr) == (0, "")
    assert file.read_text().endswith(EXPECTED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["firerunner.prom", "lvs"]
    checked = subprocess.run(["promtool", "check", "metrics"], input=file.read_bytes(), check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize("lvs", ["echo 'Volume group not found' >&2; exit 5", "echo ' , '"])
def test_without_a_pool_the_old_file_stays_and_the_reason_is_said(tmp_path: Path, lvs: str) -> None:
    file = tmp_path / "firerunner.prom"
    file.write_text("old\n")

    done = run(tmp_path, lvs, str(file))

    assert done.returncode == 1
    assert "GROUP names its volume group" in done.stderr
    assert file.read_text() == "old\n"
