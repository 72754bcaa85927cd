"""One controller for one state directory, also when its predecessor was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firerunner.control.lock import only_controller
from firerunner.errors import NotLeader

HOLDER = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from firerunner.control.lock import only_controller\n"
    "with only_controller(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


def holder(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_controller_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        with pytest.raises(NotLeader, match=f"process {first.pid}"), only_controller(tmp_path):
            pass

        first.kill()


def test_a_killed_controller_leaves_no_lock(tmp_path: Path) -> None:
    with holder(tmp_path) as first:
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=30)

    with only_controller(tmp_path):
        assert (tmp_path / "controller.lock").read_text().strip().isdigit()
