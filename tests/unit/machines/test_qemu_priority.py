"""Machines come after the service, and those that run jobs after those that start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from firerunner.machines.qemu import priority

RANKED = """
import time
from firerunner.machines.qemu import priority
for nice in (priority.STARTING_NICE, priority.RUNNING_NICE):
    while not priority.rank(nice):
        time.sleep(0.05)
    print(priority.OWN_SESSION.read_text() if priority.OWN_SESSION.exists() else f"none nice {nice}")
"""


def test_a_machines_session_is_ranked_lower_once_it_runs() -> None:
    ranked = subprocess.run(
        [sys.executable, "-c", RANKED], capture_output=True, text=True, check=True, start_new_session=True
    )

    assert [int(line.split()[-1]) for line in ranked.stdout.split("\n") if line] == [3, 10]


def test_a_session_that_may_not_be_ranked_now_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Busy(type(Path())):  # type: ignore[misc]
        def write_text(self, *_: object) -> int:
            raise BlockingIOError

    monkeypatch.setattr(priority, "OWN_SESSION", Busy(tmp_path / "autogroup"))
    assert not priority.rank(priority.RUNNING_NICE)


@pytest.mark.parametrize("path", ["missing/autogroup", "."])
def test_a_kernel_that_does_not_know_sessions_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(priority, "OWN_SESSION", tmp_path / path)
    assert priority.rank(priority.RUNNING_NICE)


def test_qemu_comes_after_its_keeper() -> None:
    become = (
        "from firerunner.machines.qemu import priority; priority.become_vmm(); import os; print(os.nice(0))"
    )
    done = subprocess.run([sys.executable, "-c", become], capture_output=True, text=True, check=True)
    assert int(done.stdout) == min(os.nice(0) + priority.VMM_NICE, 19)
