"""Boots the images of pools to look at GitLab from inside, beside a service that may be running here."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from firerunner.errors import FireRunnerError
from firerunner.findings import Finding, Level
from firerunner.images import Store
from firerunner.machines.qemu.driver import QemuDriver
from firerunner.settings import PoolSettings, Settings
from firerunner.setup.check_guest import check_guest


async def check_guests(settings: Settings, pools: Sequence[PoolSettings]) -> list[Finding]:
    """One guest after the other. In a directory of its own: a service destroys machines it does not know."""
    findings: list[Finding] = []
    store = Store(settings.image_store)
    with tempfile.TemporaryDirectory(prefix="firerunner-check-") as scratch:
        Path(scratch).chmod(0o711)
        state_dir = Path(scratch, "state")
        state_dir.mkdir(mode=0o711)
        driver = QemuDriver(state_dir)
        try:
            problems = await driver.check()
            if problems:
                return [Finding(Level.FAIL, "guests", problem.what, problem.remedy) for problem in problems]
            for pool in pools:
                try:
                    image = store.resolve(pool.image)
                except FireRunnerError as error:
                    findings.append(
                        Finding(Level.FAIL, f"guest of pool {pool.name}", error.message, error.remedy)
                    )
                    continue
                findings += await check_guest(settings, pool, image, driver)
        finally:
            await driver.aclose()
    return findings
