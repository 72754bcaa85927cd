"""`firerunner doctor`: what is missing here, and what to do about it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, print_findings
from firerunner.doctor import examine_computer, examine_hosts, examine_settings
from firerunner.errors import SettingsError
from firerunner.findings import Finding, Level
from firerunner.machines.qemu.driver import QemuDriver
from firerunner.settings import Settings, load_settings

NO_CONFIG = "Write it, as docs/first-job.md shows, or name another: --config"


def doctor(
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
    host: Annotated[str | None, typer.Option(help="Look at this host only.")] = None,
) -> None:
    """Look at the hosts, and at the configuration if there is one; name what is missing and the remedy.

    Exit status 1 if something will not work.

    Example: firerunner doctor --config ./firerunner.yaml --host kvm-1
    """
    settings = load_settings(config) if config != DEFAULT_CONFIG or _is_there(config) else None
    if host is not None and (settings is None or host not in {each.name for each in settings.hosts}):
        known = ", ".join(each.name for each in settings.hosts) if settings else "none: there is no --config"
        raise SettingsError(f"there is no host {host!r}", remedy=f"The hosts are: {known}")
    findings = asyncio.run(_examine(settings, host))
    print_findings(findings, as_json=as_json)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


def _is_there(config: Path) -> bool:
    """Also if this user may not see it: reading it says that."""
    try:
        config.stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


async def _examine(settings: Settings | None, host: str | None) -> list[Finding]:
    if settings is None:
        with tempfile.TemporaryDirectory(prefix="firerunner-doctor-") as scratch:
            # Disks would be below the state directory, and that is where room is looked for.
            driver = QemuDriver(Path(scratch), disk_dir=Settings.model_fields["state_dir"].default)
            try:
                findings = await examine_computer("host", driver)
            finally:
                await driver.aclose()
        return [
            *findings,
            Finding(Level.WARN, "config", f"there is no {DEFAULT_CONFIG}", NO_CONFIG),
        ]
    findings = await examine_hosts(settings, host)
    return findings if host is not None else findings + await examine_settings(settings)
