"""`firerunner serve`: the service itself."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from firerunner.app import log_file
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath
from firerunner.hiding import leave_no_core
from firerunner.listening import allow_many_connections
from firerunner.service import run_service
from firerunner.settings import load_settings
from firerunner.telemetry import configure_logs


def serve(
    config: ConfigPath = DEFAULT_CONFIG,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Ask GitLab for jobs and run each one in its own microVM.

    SIGTERM hands over: asks in flight are ended, machines run on, the next `serve` adopts them.
    SIGINT and SIGQUIT finish: no more jobs are taken, and it ends when the last machine is gone.
    A second signal ends at once; the ledger knows what is left to do.
    SIGHUP reads the configuration anew; a wrong one is refused, and the old one stays in force.

    Example: firerunner serve --config /etc/firerunner/config.yaml
    """
    settings = load_settings(config)
    configure_logs(log_level or settings.log.level, settings.log.format, log_file(settings))
    allow_many_connections()
    leave_no_core()
    asyncio.run(run_service(settings, config))
