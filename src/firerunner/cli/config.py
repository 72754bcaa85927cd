"""`firerunner config`: is the configuration right, what is in force, what may stand in it?"""

from __future__ import annotations

import asyncio

import typer
import yaml

from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, out, print_json
from firerunner.doctor import never_made
from firerunner.errors import SettingsError
from firerunner.settings import Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="Check, show and describe the configuration.")


@app.command()
def check(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Say whether the configuration is right; name every mistake and its place.

    Example: firerunner config check --config ./firerunner.yaml
    """
    settings = load_settings(config)
    faults = asyncio.run(never_made(settings))
    if faults:
        lines = "\n".join(f"  {each.subject}: {each.what}" for each in faults)
        raise SettingsError(f"{config} is wrong:\n{lines}", remedy="These pools would take no job")
    out.print(
        f"{config} is right: {len(settings.pools)} pool(s), {len(settings.hosts)} host(s).", markup=False
    )


@app.command()
def show(config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Print the settings in force, defaults and environment included, secrets as stars.

    Example: firerunner config show --json
    """
    shown = load_settings(config).shown()
    if as_json:
        print_json(shown)
    else:
        typer.echo(yaml.safe_dump(shown, sort_keys=False), nl=False)


@app.command()
def schema() -> None:
    """Print a JSON Schema of the configuration file, for editors and linters.

    Example: firerunner config schema > firerunner.schema.json
    """
    print_json(Settings.schema_for_editors())
