"""`firerunner doctor`: what is missing here, and what to do about it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import typer

from firerunner.app import driver_of
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, print_findings
from firerunner.doctor import examine_computer, examine_settings
from firerunner.findings import Finding, Level
from firerunner.machines.qemu.driver import QemuDriver
from firerunner.settings import Settings, load_settings


def doctor(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Look at this computer, and at the configuration if there is one; name what is missing and the remedy.

    Exit status 1 if something will not work.

    Example: firerunner doctor --config ./firerunner.yaml
    """
    settings = load_settings(config) if config.exists() or config != DEFAULT_CONFIG else None
    findings = asyncio.run(_examine(settings))
    print_findings(findings, as_json=as_json)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


async def _examine(settings: Settings | None) -> list[Finding]:
    with tempfile.TemporaryDirectory(prefix="firerunner-doctor-") as scratch:
        driver = driver_of(settings, settings.hosts[0]) if settings else QemuDriver(Path(scratch))
        try:
            findings = await examine_computer(driver)
            if settings is None:
                return [
                    *findings,
                    Finding(Level.WARN, "config", f"there is no {DEFAULT_CONFIG}", "Name one: --config"),
                ]
            return findings + await examine_settings(settings, driver)
        finally:
            await driver.aclose()
