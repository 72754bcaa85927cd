"""The same with real microVMs of the qemu driver: what QEMU, its keeper and the state directory hold."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from firerunner.demo.leftovers import vmm_of
from firerunner.demo.stage import cache_dir
from firerunner.images import Image
from firerunner.machines.qemu.order import Fd
from tests.e2e.lab import Lab, lab
from tests.secrets import canaries
from tests.secrets.canaries import Secrets
from tests.secrets.searching import descendants, in_files, in_processes, modes, of_directory

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.vm,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it takes two minutes"),
]

CI = f"""
stages: [test]
variables: {{GIT_STRATEGY: none, PLAIN: {canaries.VARIABLE}}}
one:
  stage: test
  script:
    - echo begin
    - for i in $(seq 60); do echo "second $i"; [ -e /tmp/never ] && break; sleep 1; done
"""
POOL: dict[str, Any] = {
    "runner_config": f'environment = ["REGISTRY={canaries.RUNNER_CONFIG}"]\n',
    "proxy": {
        "url": f"http://someone:{canaries.POOL_PROXY_PASSWORD}@proxy.test:3128",
        "no_proxy": "gitlab.test",
    },
}
OPEN_ON_PURPOSE = {".": 0o711}


async def test_no_secret_is_found_in_clear_beside_a_running_microvm(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRERUNNER_API__READ_TOKEN", canaries.READ_TOKEN)
    settings = {
        "log": {"level": "debug"},
        "api": {"operate_token": canaries.OPERATE_TOKEN},
        "proxy": {"url": f"http://someone:{canaries.PROXY_PASSWORD}@127.0.0.1:9", "no_proxy": "*"},
    }
    secrets = Secrets()
    store = cache_dir() / "images"
    async with lab(store, image.manifest.digest, {".gitlab-ci.yml": CI}, pool=POOL, settings=settings) as it:
        pipeline = await it.gitlab.run_pipeline(it.project)
        job = it.gitlab.job("one", pipeline)
        await it.gitlab.wait_for(lambda: b"second 2" in job.trace, 240.0)
        for runner in it.gitlab.world.runners.values():
            secrets.add("runner token", runner.token)
        secrets.add("job token", job.token)
        for line in (it.directory / "state" / "ledger.key").read_text().split():
            secrets.add("ledger key", line)
        secrets.add("machine credential", _credential(it))

        found = _search(secrets, it)
        pid = it.service.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await it.gitlab.wait_for(lambda: b"second 10" in job.trace, 240.0)
        found += _search(secrets, it)
        it.gitlab.cancel(job)
        it.gitlab.cancel(job, force=True)
        await it.gitlab.wait_for_job(job, "canceled", timeout_s=120.0)
        found += _at_rest(secrets, it)

    assert found == []


def _credential(it: Lab) -> str:
    """As root of the host sees it: in the memory file that QEMU was given."""
    (directory,) = (it.directory / "state" / "machines").iterdir()
    pid = vmm_of(directory.name)
    assert pid is not None
    text = Path(f"/proc/{pid}/fd/{Fd.BOOT}").read_text()
    return next(line.partition("=")[2] for line in text.splitlines() if line.startswith("credential="))


def _search(secrets: Secrets, it: Lab) -> list[str]:
    state = it.directory / "state"
    pids = (of_directory(it.directory) | descendants(it.service.pid or 0)) - {os.getpid()}
    names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids if Path(f"/proc/{pid}").exists()}
    assert any(name.startswith("qemu-system") for name in names), names
    given = {it.service.pid or 0: "read token"}
    found = in_processes(secrets, pids, given) + modes(state, OPEN_ON_PURPOSE)
    return found + _at_rest(secrets, it)


def _at_rest(secrets: Secrets, it: Lab) -> list[str]:
    """All but the machines' disks, which are the jobs' own and go with them, and the fake's files."""
    state = it.directory / "state"
    but = {state / "ledger.key", it.config, *(it.directory / "gitlab").rglob("*")}
    with contextlib.suppress(FileNotFoundError):
        but |= set((state / "machines").glob("*/disk.raw"))
    return in_files(secrets, it.directory, but)
