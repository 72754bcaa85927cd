"""Ctrl-C and SIGTERM in the middle of the demo leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firerunner.demo.leftovers import network_names, processes_of

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_an_interrupted_demo_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = network_names()
    command = [sys.executable, "-m", "firerunner", "demo"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        booted = next(line for line in demo.stderr if "(busy)" in line)

        os.kill(demo.pid, number)
        said = demo.stderr.read()

    assert demo.returncode == 130, said
    assert "running in fr-" in booted
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert network_names() == before
