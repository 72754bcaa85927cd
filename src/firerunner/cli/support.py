"""`firerunner support-bundle`: an archive for whoever is to help."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, errors, out, print_json
from firerunner.settings import load_settings
from firerunner.support import write_bundle


def support_bundle(
    config: ConfigPath = DEFAULT_CONFIG,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; else one with the time in its name, here."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write an archive (.tar.gz) that says how this installation is, for whoever is to help.

    In it: versions, the settings with stars for secrets, what `doctor` finds, hosts, images, who leads, the
    last 1,000 jobs and machines, the last 5,000 rows of the journal, and the end of `log.file`. Every secret
    that is in the settings or the ledger is taken out of every text. Names of projects, jobs and hosts stay:
    look through it before you give it away. What cannot be had is named in `missing.txt`.

    With --json: `file` and `missing`.

    Example: firerunner support-bundle --output /tmp/firerunner-support.tar.gz
    """
    settings = load_settings(config)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = output or Path(f"firerunner-support-{stamp}.tar.gz")
    missing = asyncio.run(write_bundle(settings, path))
    if as_json:
        print_json({"file": str(path), "missing": missing})
        return
    for each in missing:
        errors.print(f"not in it: {each}", style="yellow", markup=False, highlight=False)
    out.print(f"{path}: {path.stat().st_size / 1024:.0f} KiB", markup=False, highlight=False)
