"""The demo's stage: directories, the fake GitLab, and the real service as a process of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from firerunner.app import open_ledger
from firerunner.demo.hosts import PUBLISHED, Hosts, open_hosts
from firerunner.demo.sample import POOLS, POOLS_ON_HOSTS, PROJECT, Pool, project_files
from firerunner.demo.supervisor import Supervisor
from firerunner.fakes.flintlock.qemu_vmm import OUTSIDE
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.fakes.gitlab.model import Project
from firerunner.images import Recipe, Store
from firerunner.images.runner_binary import ENVIRONMENT_VARIABLE
from firerunner.ledger import Ledger
from firerunner.machines.qemu import QemuDriver
from firerunner.settings import Settings, load_settings

GITLAB_NAME = "gitlab.test"
RESTART_S = 1.0


def cache_dir() -> Path:
    """Where images are kept from one run to the next."""
    if os.geteuid() == 0:
        return Path("/var/cache/firerunner")
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "firerunner"


def demo_recipe(runner_binary: Path | None) -> Recipe:
    """What the demo's machines boot from; one image for each kind of runner, so that both are kept."""
    given = runner_binary or os.environ.get(ENVIRONMENT_VARIABLE)
    return Recipe(name="demo-official" if given else "demo")


@dataclass(slots=True)
class Stage:
    """Everything that a run uses, alive until the `set_up` block ends."""

    directory: Path
    config: Path
    settings: Settings
    gitlab: FakeGitLab
    project: Project
    ledger: Ledger
    service: Supervisor = field(repr=False)
    hosts: Hosts | None = None
    """None: machines run on this computer, by the `qemu` driver."""


@contextlib.asynccontextmanager
async def set_up(
    store: Path,
    image: str,
    *,
    restart_after_s: float = RESTART_S,
    egress: Sequence[str] = ("gitlab",),
    hosts: int = 0,
    api_token: bool = False,
    warm: int = 0,
) -> AsyncIterator[Stage]:
    """Build the stage with an image from `store`; take all of it away afterwards, whatever happens.

    `hosts`: so many fake Flintlocks; 0: this computer makes the machines. `api_token`: the service has one.
    `warm`: machines that each pool keeps waiting.
    """
    directory = Path(tempfile.mkdtemp(prefix="firerunner-demo-"))
    directory.chmod(0o711)
    try:
        async with contextlib.AsyncExitStack() as stack:
            pools = _pools(image, egress, warm, POOLS_ON_HOSTS if hosts else POOLS)
            yield await _build(directory, store, image, restart_after_s, pools, hosts, api_token, stack)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _pools(image: str, egress: Sequence[str], warm: int, shapes: Sequence[Pool]) -> list[dict[str, Any]]:
    """As the configuration has them, but for their runner tokens."""
    return [
        {
            "name": pool.name,
            "image": image,
            "vcpu": pool.vcpu,
            "memory_mib": pool.memory_mib,
            "disk_mib": 1024,
            "limit": 4,
            "egress": list(egress),
            "max_job_time": "10m",
            "warm": warm,
        }
        for pool in shapes
    ]


async def _build(
    directory: Path,
    store: Path,
    image: str,
    restart_after_s: float,
    pools: list[dict[str, Any]],
    count: int,
    api_token: bool,
    stack: contextlib.AsyncExitStack,
) -> Stage:
    name = OUTSIDE if count else GITLAB_NAME
    gitlab = await stack.enter_async_context(
        FakeGitLab(directory / "gitlab", external_url=f"http://{name}:PORT")
    )
    project = await gitlab.add_project(PROJECT, project_files())
    web, gate, secret = free_port(), free_port(), secrets.token_urlsafe(16)
    gitlab.add_hook(project, f"http://127.0.0.1:{web}/webhook", token=secret)
    for pool in pools:
        pool["runner_token"] = gitlab.add_runner(
            [pool["name"]], run_untagged=False, description=f"pool {pool['name']}"
        )
    hosts = None
    if count:
        images = Store(store)
        found = images.resolve(image)
        images.note_published(found, PUBLISHED)
        hosts = await stack.enter_async_context(open_hosts(directory, count, found.files))
        hosts.let_through(gate, urlsplit(gitlab.url).port or 80)
    config = directory / "config.yaml"
    described: dict[str, Any] = {
        "gitlab": {"url": gitlab.url, "clone_url": gitlab.external_url, "webhook_secret": secret}
        | ({"api_token": gitlab.api_token} if api_token else {}),
        "state_dir": str(directory / "state"),
        "image_dir": str(store),
        "listen": {"web": f"127.0.0.1:{web}", "gate": f"127.0.0.1:{gate}"},
        "pools": pools,
    } | ({"hosts": hosts.described(gate)} if hosts else {})
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(described, sort_keys=False))
    settings = load_settings(config)
    settings.state_dir.mkdir(mode=0o711)
    ledger = await stack.enter_async_context(open_ledger(settings))
    service = Supervisor(config, directory / "service.log", restart_after_s)
    service.start()
    stack.push_async_callback(strike, gitlab, service, settings.state_dir)
    await service.until_healthy(f"http://{settings.listen.web}/health")
    return Stage(directory, config, settings, gitlab, project, ledger, service, hosts)


async def strike(gitlab: FakeGitLab, service: Supervisor, state_dir: Path) -> None:
    """End what still runs, also after an interruption in the middle of it all."""
    for job in gitlab.jobs():
        gitlab.cancel(job)
        gitlab.cancel(job, force=True)  # a running job is only `canceling` after the first
    await service.finish()
    driver = QemuDriver(state_dir)
    try:
        for sighting in await driver.list():
            await driver.destroy(sighting.machine_id)
    finally:
        await driver.aclose()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
