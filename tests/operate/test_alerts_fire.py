"""A real Prometheus scrapes a real run, and real faults make alerts fire; before them it is quiet."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from firerunner.demo.stage import free_port
from firerunner.fakes.machines import Guest
from firerunner.hosting import opened
from firerunner.images import Image
from firerunner.machines.spec import MachineSpec, Resources
from firerunner.settings import load_settings
from tests.scene.controllers import ControllerProcess, scene

pytestmark = pytest.mark.anyio

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "firerunner.rules.yaml"
SHORT = "15s"
"""Longer than a scrape or two that are late on a busy computer."""


@dataclass
class Prometheus:
    """A server that scrapes once a second and waits `SHORT` for each alert, whatever its `for`."""

    port: int

    async def firing(self) -> set[str]:
        """The names of alerts that fire now."""
        alerts = (await self._asked("alerts"))["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    async def fires(self, *names: str) -> None:
        """Returns once all of these do."""
        firing: set[str] = set()
        try:
            async with asyncio.timeout(120):
                while not firing >= set(names):
                    await asyncio.sleep(0.2)
                    with contextlib.suppress(httpx.HTTPError):
                        firing = await self.firing()
        except TimeoutError:
            raise AssertionError(f"{set(names) - firing} do not fire, only {firing}") from None

    async def scrapes(self) -> None:
        """Returns once it has seen a leader."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await self._asked("query", query="firerunner_leader == 1"))["result"]:
                        return
                await asyncio.sleep(0.2)

    async def _asked(self, what: str, **params: str) -> dict[str, Any]:
        """Its API's answer; raises `httpx.HTTPError` also while it starts, when it listens and says 503."""
        async with httpx.AsyncClient(trust_env=False) as http:
            said = await http.get(f"http://127.0.0.1:{self.port}/api/v1/{what}", params=params)
        return dict(said.raise_for_status().json()["data"])


@contextlib.asynccontextmanager
async def scraping(controller: ControllerProcess, folder: Path) -> AsyncIterator[Prometheus]:
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["for"] = SHORT
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    scrape = {
        "job_name": "firerunner",
        "static_configs": [{"targets": [f"127.0.0.1:{controller.web}"]}],
    }
    said = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(said))
    port = free_port()
    command = [
        *("setpriv", "--pdeathsig", "KILL", "--", "prometheus"),
        f"--config.file={folder}/prometheus.yaml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield Prometheus(port)
        finally:
            process.kill()
            process.wait()


async def _forever(guest: Guest) -> None:
    """Says nothing."""
    await asyncio.Event().wait()


async def _leak(controller: ControllerProcess, image: Image) -> None:
    """Make a machine on the controller's host that its ledger does not know."""
    settings = load_settings(controller.config)
    async with opened(settings, settings.hosts[0]) as driver:
        await driver.create(
            MachineSpec(
                machine_id="fr-leaked000000",
                resources=Resources(1, 1024, 1024),
                image=image.files,
                gate="127.0.0.1:9",
                credential="leaked",
            )
        )


async def test_alerts_fire_by_real_faults_and_not_before(image: Image, tmp_path: Path) -> None:
    async with scene(None, image, 1) as it:
        await it.start_all()
        (controller,) = it.controllers
        async with scraping(controller, tmp_path) as prometheus:
            await prometheus.scrapes()
            await it.ended(await it.run_jobs(2))
            quiet = await prometheus.firing()
            it.vmm.life = _forever

            await _leak(controller, image)
            await prometheus.fires("FireRunnerLeaks")

            await it.flintlock.die()
            await prometheus.fires("FireRunnerHostUnusable")

            controller.kill()
            await prometheus.fires("FireRunnerNoLeader")

    assert quiet - {"FireRunnerDiskNearlyFull"} == set()
