"""A guest with an uplink reaches the networks, domains and the internet that its pool names, and no more."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from firerunner.machines.spec import ImageFiles
from tests.contract.lab import test_guest

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

__all__ = ["test_guest"]

APART = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--net",
    "--mount",
    "--pid",
    "--mount-proc",
    "--fork",
    "--kill-child",
)
"""Networks, mounts and processes of its own, which end with it, and it with us."""

REACHED = {
    "named=corporate-7000",
    "network=corporate-5432",
    "internet=public-443",
    "internet-by-name=public-443",
    "domain=corporate-80",
    "domain-six=six-80",
    "dns-by-tcp=open",
    "text=seen",
    "somebody=resolved",
    "done=yes",
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the networks around a host")
async def test_an_uplink_leads_where_its_rules_say(test_guest: ImageFiles, tmp_path: Path) -> None:
    scene = await asyncio.create_subprocess_exec(
        *APART,
        *(sys.executable, "-m", "tests.e2e.uplink_scene"),
        *map(str, (test_guest.kernel, test_guest.initramfs, test_guest.root, tmp_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        out, _ = await scene.communicate()
    finally:
        if scene.returncode is None:
            scene.kill()
    assert scene.returncode == 0
    seen = json.loads(out)

    assert {line for line in seen["report"] if not line.endswith("=")} == REACHED
    assert len(seen["report"]) > 20
    assert seen["host"] == []
