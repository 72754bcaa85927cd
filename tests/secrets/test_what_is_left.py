"""What programs inherit from us, what a crash leaves, and who may read what we write."""

from __future__ import annotations

import os
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
