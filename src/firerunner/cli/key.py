"""`firerunner key`: change the ledger's key, and see whether the key file fits the ledger."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Annotated

import typer

from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, out, print_json
from firerunner.rotation import check as check_keys
from firerunner.rotation import rotate as rotate_keys
from firerunner.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Rotate and check the key that encrypts the ledger's secrets.")


@app.command()
def rotate(
    config: ConfigPath = DEFAULT_CONFIG,
    begin: Annotated[bool, typer.Option("--begin", help="Only put a new key into the file.")] = False,
    end: Annotated[bool, typer.Option("--end", help="Only encrypt anew and remove old keys.")] = False,
) -> None:
    """Encrypt every secret in the ledger with a new key, and remove the old one from the key file.

    The service may run: it takes the new key up by itself. Broken off, it goes on when it is run again.
    Several controllers on one ledger need the file copied between `--begin` and `--end`.

    Example: firerunner key rotate
    """
    if begin and end:
        raise typer.BadParameter("--begin and --end are two steps; leave both out to do both")
    settings = load_settings(config)
    done = asyncio.run(rotate_keys(settings, "begin" if begin else "end" if end else "both"))
    if begin:
        what = "A new key was in the file already" if done.resumed else "A new key is the first in the file"
        out.print(
            f"{what}: copy {settings.key_file} to every controller, then run it with --end.", markup=False
        )
        return
    if done.resumed and not end:
        out.print("An earlier rotation was broken off; it has been brought to its end.")
    out.print(f"{done.secrets} secrets encrypted anew, {done.removed} old key(s) removed.", markup=False)


@app.command()
def check(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Say whether every secret in the ledger can be read with the key file. Exit status 1 if one cannot.

    Example: firerunner key check
    """
    report = asyncio.run(check_keys(load_settings(config)))
    if as_json:
        print_json(dataclasses.asdict(report))
    else:
        out.print(
            f"{report.keys} key(s) in the file. Secrets under the first: {report.first}, under older ones: "
            f"{report.older}, not readable: {report.unreadable}.",
            markup=False,
        )
        if report.keys > 1:
            out.print("A rotation has not come to its end: run `firerunner key rotate` again.", markup=False)
    if report.unreadable:
        raise typer.Exit(1)
