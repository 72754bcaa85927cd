"""`firerunner image`: build, list, inspect and prune images."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from firerunner.app import image_store, images_in_use
from firerunner.building import build
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, out, print_json, print_table, reported
from firerunner.images import Recipe, Store
from firerunner.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Build, list, inspect and prune images.")

StorePath = Annotated[
    Path | None,
    typer.Option("--store", help="The image store's directory. Default: as the configuration says."),
]


def _store(store: Path | None, config: Path) -> Store:
    return Store(store) if store else image_store(load_settings(config))


@app.command("build")
def build_command(
    name: Annotated[str, typer.Option("--name", "-n", help="What pools call it.")] = "default",
    runner_binary: Annotated[
        Path | None,
        typer.Option("--runner-binary", envvar="FIRERUNNER_GITLAB_RUNNER", help="A gitlab-runner for Linux."),
    ] = None,
    package: Annotated[
        list[str] | None, typer.Option(help="One more Debian package; may be repeated.")
    ] = None,
    allow_stand_in: Annotated[
        bool, typer.Option("--allow-stand-in", help="For tests: a shell script in place of gitlab-runner.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Build even if the recipe is unchanged.")] = False,
    store: StorePath = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Build kernel, initramfs and root, boot the image once, and record what its runner declares.

    Example: firerunner image build --name default --runner-binary ./gitlab-runner-linux-amd64
    """
    recipe = Recipe(name=name, packages=tuple(package or ()), production=not allow_stand_in)
    with reported() as progress:
        image = asyncio.run(
            build(recipe, _store(store, config), runner_binary, progress=progress, again=again)
        )
    runner = image.manifest.runner
    out.print(f"image {name} = {image.manifest.digest[:12]}, {runner.kind} gitlab-runner {runner.version}")


@app.command("list")
def list_command(store: StorePath = None, config: ConfigPath = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """List the images in the store.

    Example: firerunner image list
    """
    chosen = _store(store, config)
    manifests, names = chosen.manifests(), set(chosen.names().values())
    if as_json:
        print_json([manifest.model_dump(mode="json", exclude={"info"}) for manifest in manifests])
        return
    print_table(
        "images",
        ("name", "digest", "current", "runner", "kernel", "MiB", "built"),
        [
            (
                manifest.name,
                manifest.digest[:12],
                "yes" if manifest.digest in names else "",
                f"{manifest.runner.kind} {manifest.runner.version}",
                manifest.kernel_version,
                sum(facts.size for facts in manifest.files.values()) >> 20,
                f"{manifest.built_at:%Y-%m-%d %H:%M}",
            )
            for manifest in manifests
        ],
    )


@app.command()
def inspect(
    image: Annotated[str, typer.Argument(help="Name or digest.")],
    store: StorePath = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Print an image's manifest, after checking its files against it.

    Example: firerunner image inspect default
    """
    print_json(_store(store, config).resolve(image).manifest.model_dump(mode="json"))


@app.command()
def prune(store: StorePath = None, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Remove images that no name points to and no machine uses.

    Example: firerunner image prune
    """
    in_use = set() if store else asyncio.run(images_in_use(load_settings(config)))
    pruned = asyncio.run(_store(store, config).prune(in_use))
    out.print(f"{len(pruned)} image(s) removed.")
