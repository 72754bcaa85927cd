"""The program `firerunner`: collects the command groups and turns errors into one clear line."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from firerunner import __version__
from firerunner.cli import (
    config,
    demo,
    doctor,
    events,
    gitlab,
    hold,
    hosts,
    image,
    key,
    ledger,
    logs,
    report,
    serve,
    shell,
    show,
    support,
    top,
)
from firerunner.cli.exits import Exit
from firerunner.cli.output import errors
from firerunner.errors import FireRunnerError, SettingsError

app = typer.Typer(
    name="firerunner",
    help="Every GitLab CI job in its own fresh microVM, run once by gitlab-runner, then destroyed.",
    epilog="Begin with `firerunner doctor`, then `firerunner demo`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("top")(top.top)
app.command("jobs")(show.jobs)
app.command("machines")(show.machines)
app.command("events")(events.events)
app.command("logs")(logs.logs)
app.command("report")(report.report)
app.command("support-bundle")(support.support_bundle)
app.command("hosts")(hosts.hosts)
app.command("cordon")(hosts.cordon)
app.command("uncordon")(hosts.uncordon)
app.command("drain")(hosts.drain)
app.command("believe")(hosts.believe)
app.command("shell")(shell.shell)
app.add_typer(hold.app, name="hold")
app.add_typer(image.app, name="image")
app.add_typer(config.app, name="config")
app.add_typer(gitlab.app, name="gitlab")
app.add_typer(key.app, name="key")
app.add_typer(ledger.app, name="ledger")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"firerunner {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point; see `Exit`."""
    try:
        app()
    except SettingsError as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False)
        sys.exit(Exit.WRONG)
    except FireRunnerError as error:
        errors.print(f"error: {error}", style="red", markup=False, highlight=False)
        sys.exit(Exit.FAILED)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
