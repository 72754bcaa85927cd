"""`firerunner demo --json`, read as a program would read it, with the leftovers counted from outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from firerunner.demo.leftovers import network_names

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]

KEYS = {"ok", "runner", "nonce", "jobs", "leftover"}
JOB_KEYS = {
    "name", "id", "status", "failure_reason", "machine",
    "guest_kernel", "vcpu", "memory_mib", "nonce", "seconds",
}  # fmt: skip
LEFTOVER_KEYS = {"machines", "processes", "managers", "files", "network"}
SECONDS_KEYS = {"pending_to_running", "running_to_first_output", "total"}


def outcome(command: list[str]) -> tuple[int, str, str]:
    """Exit status and both outputs. Should the test be broken off, the demo is told to clean up, once."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as demo:
        try:
            said, progress = demo.communicate(timeout=800)
        except BaseException:
            demo.send_signal(signal.SIGINT)
            demo.communicate(timeout=120)
            raise
    return demo.returncode, said, progress


@pytest.mark.parametrize(
    ("more", "sizes"),
    [((), {(1, False), (2, True)}), (("--hosts", "3"), {(1, True), (2, True)})],
    ids=["here", "three-hosts"],
)
def test_the_demo_goes_as_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], sizes: set[tuple[int, bool]]
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = network_names()

    code, said, progress = outcome([sys.executable, "-m", "firerunner", "demo", "--json", *more])

    assert code == 0, progress[-3000:]
    report = json.loads(said.splitlines()[-1])
    assert set(report) == KEYS
    assert report["ok"] is True
    assert set(report["leftover"]) == LEFTOVER_KEYS
    assert set(report["leftover"].values()) == {0}
    assert all(set(job) == JOB_KEYS and set(job["seconds"]) == SECONDS_KEYS for job in report["jobs"])
    spoke = [job for job in report["jobs"] if job["nonce"] is not None]
    silent = [job["failure_reason"] for job in report["jobs"] if job["nonce"] is None]
    assert set(silent) <= ({"runner_system_failure"} if more else set())  # its host lost its power before
    assert {job["nonce"] for job in spoke} == {report["nonce"]}
    assert len({job["machine"] for job in report["jobs"]}) == len(report["jobs"]) >= 8
    assert {(job["vcpu"], job["memory_mib"] > 300) for job in spoke} == sizes
    assert list(tmp_path.iterdir()) == []
    assert network_names() == before
