"""Two jobs in machines that were restored from one saved state have in common only what they should."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from firerunner.building import build
from firerunner.demo.stage import cache_dir, demo_recipe
from firerunner.fakes.gitlab.model import Job
from firerunner.images import Store
from tests.e2e.lab import JOB_S, Lab, lab

pytestmark = [pytest.mark.anyio, pytest.mark.vm]

RUNNER = os.environ.get("FIRERUNNER_GITLAB_RUNNER")

CI = """
look:
  variables: {GIT_STRATEGY: none}
  script:
    - 'say() { printf "fact %s=%s\\\\n" "$1" "$2"; }'
    - say restored "$(grep -c fr.template=1 /proc/cmdline)"
    - say hostname "$(cat /proc/sys/kernel/hostname)"
    - say machine_id "$(cat /etc/machine-id)"
    - say boot_id "$(cat /proc/sys/kernel/random/boot_id)"
    - say uuid "$(cat /proc/sys/kernel/random/uuid)"
    - say urandom "$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n')"
    - say shell_random "$RANDOM$RANDOM$RANDOM"
    - say credential "$(grep token /run/firerunner/config.toml | sha256sum | cut -c 1-32)"
    - say disk_uuid "$(od -An -tx1 -j $((1024 + 104)) -N 16 /dev/vdb | tr -d ' \\n')"
    - say host_keys "$(ls /etc/ssh/ssh_host_* 2> /dev/null | wc -l)"
    - say left_by_others "$(ls -A /builds/left 2> /dev/null | wc -l)"
    - say clock "$(date +%s)"
    - say address "$(cat /sys/class/net/eth0/address)"
    - mkdir -p /builds/left && touch /builds/left/me
"""

OF_ITS_OWN = ("hostname", "machine_id", "boot_id", "uuid", "urandom", "credential", "disk_uuid")
SAVED = "saved a state"
MAX_OFF_S = 60.0


def facts(trace: str) -> dict[str, str]:
    return dict(re.findall(r"^fact (\w+)=(\S*)\s*$", trace, re.MULTILINE))


async def looked(it: Lab) -> tuple[Job, dict[str, str], float]:
    job = await it.run("look")
    return job, facts(it.trace(job)), time.time()


async def test_clones_differ_in_all_that_must_differ(tmp_path: Path) -> None:
    given = Path(RUNNER) if RUNNER else None
    image = await build(demo_recipe(given), Store(cache_dir() / "images"), given)
    async with lab(
        cache_dir() / "images", image.manifest.digest, {".gitlab-ci.yml": CI}, directory=tmp_path
    ) as it:
        await it.gitlab.wait_for(lambda: SAVED in it.service.log_tail(100_000), timeout_s=JOB_S)
        (state,) = (tmp_path / "state" / "states").glob("*/")
        (one_job, one, at), (two_job, two, _) = await looked(it), await looked(it)
        parts = [state / name for name in ("memory", "disk", "devices")]
        saved = b"".join(part.read_bytes() for part in parts)
        modes = {part.stat().st_mode & 0o777 for part in parts}

    assert (one_job.status, two_job.status) == ("success", "success")
    assert one["restored"] == two["restored"] == "1"
    assert {name for name in OF_ITS_OWN if one[name] == two[name]} == set()
    assert all(one[name] and two[name] for name in OF_ITS_OWN)
    assert (one["host_keys"], one["left_by_others"], two["left_by_others"]) == ("0", "0", "0")
    assert abs(float(one["clock"]) - at) < MAX_OFF_S
    assert modes == {0o600}
    secrets = [one["hostname"], two["hostname"], one["machine_id"], "glrt-", "webhook"]
    assert [word for word in secrets if word.encode() in saved] == []
