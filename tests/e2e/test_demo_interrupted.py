"""Ctrl-C, also in haste, and SIGTERM in the middle of the demo leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firerunner.demo.leftovers import network_names, processes_of

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    "numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)], ids=["Ctrl-C-twice", "SIGTERM"]
)
def test_an_interrupted_demo_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: tuple[signal.Signals, ...]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = network_names()
    command = [sys.executable, "-m", "firerunner", "demo"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        booted = next(line for line in demo.stderr if "(busy)" in line)

        for number in numbers:
            os.kill(demo.pid, number)
            heard = next(line for line in demo.stderr if "cleaning up" in line)
        said = demo.stderr.read()

    assert demo.returncode == 130, said
    assert "running in fr-" in booted
    assert heard.startswith("still") is (len(numbers) > 1)
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert network_names() == before
