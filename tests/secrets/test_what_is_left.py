"""What programs inherit from us, what a crash leaves, and who may read what we write."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from firerunner.hiding import environment_for_programs
from firerunner.images.tools import run
from firerunner.machines.qemu import checks
from firerunner.machines.qemu.host import CACHE_FILE, Host

TOKEN = "canary-token-0123456789"


@pytest.mark.anyio
async def test_programs_do_not_inherit_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRERUNNER_API__READ_TOKEN", TOKEN)
    monkeypatch.setenv("GITLAB_TOKEN", TOKEN)
    monkeypatch.setenv("http_proxy", "http://proxy.test")

    seen = await run(["env"])

    assert TOKEN not in seen
    assert "http_proxy=http://proxy.test" in seen
    assert set(checks.CHILD_ENVIRONMENT) == {"PATH", "LANG"}
    assert TOKEN not in str(environment_for_programs(os.environ))


def test_what_is_known_of_the_computer_is_for_its_owner(tmp_path: Path) -> None:
    Host(tmp_path).tsc_khz()

    assert (tmp_path / CACHE_FILE).stat().st_mode & 0o777 == 0o600


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    code = "import os, sys; from firerunner.hiding import leave_no_core; leave_no_core(); os.abort()"
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)

    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)),
    )

    assert list(tmp_path.iterdir()) == []
