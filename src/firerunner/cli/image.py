"""`firerunner image`: build, list, inspect, push, pull and prune images."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from firerunner.app import image_store, images_in_use
from firerunner.building import build
from firerunner.cli.output import DEFAULT_CONFIG, ConfigPath, Json, out, print_json, print_table, reported
from firerunner.errors import ImageError
from firerunner.images import Store
from firerunner.images.declaration import (
    EXAMPLE,
    Declaration,
    DockerEntry,
    checked,
    read_declaration,
)
from firerunner.images.declared import recipe_of
from firerunner.images.exchange import Way, pull, push
from firerunner.images.runner_binary import DEFAULT_VERSION
from firerunner.settings import load_settings

app = typer.Typer(no_args_is_help=True, help="Build, list, inspect, push, pull and prune images.")

StorePath = Annotated[
    Path | None,
    typer.Option("--store", help="The image store's directory. Default: as the configuration says."),
]

Username = Annotated[str | None, typer.Option(help="Default: what `skopeo login` has stored.")]
PasswordFile = Annotated[Path | None, typer.Option(help="A file that holds the password.")]
CaFile = Annotated[Path | None, typer.Option(help="PEM bundle of the registry's own authority.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Accept plain HTTP and every certificate.")]


def _store(store: Path | None, config: Path) -> Store:
    return Store(store) if store else image_store(load_settings(config, missing_secrets="placeholder"))


@app.command("build")
def build_command(
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="An image.yaml; see `firerunner image example`.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="What pools call it [default].")] = None,
    runner_binary: Annotated[
        Path | None,
        typer.Option("--runner-binary", envvar="FIRERUNNER_GITLAB_RUNNER", help="A gitlab-runner for Linux."),
    ] = None,
    runner_version: Annotated[
        str | None, typer.Option(help=f"GitLab's release to fetch and verify [{DEFAULT_VERSION}].")
    ] = None,
    runner_sha256: Annotated[
        str | None, typer.Option("--runner-sha256", help="The checksum that the runner must have.")
    ] = None,
    package: Annotated[
        list[str] | None, typer.Option(help="One more Debian package; may be repeated.")
    ] = None,
    with_docker: Annotated[
        bool, typer.Option("--with-docker", help="A Docker engine, for the runner's docker executor.")
    ] = False,
    helper_image: Annotated[
        Path | None, typer.Option(help="With Docker: GitLab's helper image as a file, prebuilt-….")
    ] = None,
    cloud_init: Annotated[
        bool, typer.Option("--cloud-init", help="Boot with systemd and cloud-init; slower.")
    ] = False,
    allow_stand_in: Annotated[
        bool, typer.Option("--allow-stand-in", help="For tests: a shell script in place of gitlab-runner.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Build even if the recipe is unchanged.")] = False,
    store: StorePath = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Build kernel, initramfs and root, boot the image once, and record what its runner declares.

    Options add to what --file says, or replace it. An unchanged recipe is not built again.

    Example: firerunner image build --runner-binary ./gitlab-runner-linux-amd64

    Example: firerunner image build --file image.yaml

    Example: firerunner image build --name docker --with-docker
    """
    declared = read_declaration(file) if file else Declaration()
    runner = declared.runner
    if runner_binary is not None:
        runner = runner.model_copy(update={"binary": runner_binary})
    changes: dict[str, Any] = {"packages": (*declared.packages, *(package or ()))}
    if name is not None:
        changes["name"] = name
    if runner_version is not None:
        runner = runner.model_copy(update={"version": runner_version})
    if runner_sha256 is not None:
        runner = runner.model_copy(update={"sha256": runner_sha256})
    if with_docker or helper_image is not None:
        docker = declared.docker or DockerEntry()
        changes["docker"] = docker.model_copy(update={"helper_image": helper_image or docker.helper_image})
    if cloud_init:
        changes["cloud_init"] = True
    if allow_stand_in:
        changes["production"] = False
    declared = checked(declared.model_copy(update=changes | {"runner": runner}))
    with reported() as progress:
        image = asyncio.run(
            build(
                recipe_of(declared),
                _store(store, config),
                declared.runner.binary,
                wish=declared.runner.wish,
                progress=progress,
                again=again,
            )
        )
    manifest, boot = image.manifest, image.manifest.boot
    booted = f", booted in {boot.seconds:.1f} s ({boot.accelerator})" if boot else ""
    out.print(
        f"image {manifest.name} = {manifest.digest[:12]}, {manifest.runner.kind} gitlab-runner "
        f"{manifest.runner.version}, {manifest.mib} MiB{booted}"
    )


@app.command()
def example() -> None:
    """Print an image.yaml to start from.

    Example: firerunner image example > image.yaml
    """
    typer.echo(EXAMPLE, nl=False)


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
        ("name", "digest", "current", "runner", "with", "kernel", "MiB", "boot", "built"),
        [
            (
                manifest.name,
                manifest.digest[:12],
                "yes" if manifest.digest in names else "",
                f"{manifest.runner.kind} {manifest.runner.version}",
                "docker" if manifest.docker else "cloud-init" if manifest.cloud_init else "",
                manifest.kernel_version,
                manifest.mib,
                f"{manifest.boot.seconds:.1f} s ({manifest.boot.accelerator})" if manifest.boot else "",
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
    settings = None if store else load_settings(config, missing_secrets="placeholder")
    in_use = set() if settings is None else asyncio.run(images_in_use(settings))
    pruned = asyncio.run(_store(store, config).prune(in_use))
    out.print(f"{len(pruned)} image(s) removed.")


@app.command("push")
def push_command(
    target: Annotated[str, typer.Argument(help="REGISTRY/REPOSITORY[:TAG]")],
    image: Annotated[str, typer.Option("--image", "-i", help="Name or digest.")] = "default",
    username: Username = None,
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    store: StorePath = None,
    config: ConfigPath = DEFAULT_CONFIG,
    as_json: Json = False,
) -> None:
    """Push an image to a container registry; prints the digests by which it can be pulled.

    Kernel and root are pushed for themselves too, to TAG-kernel and TAG-root, for hosts that run machines
    by containerd.

    Example: firerunner image push registry.example.com/ci/firerunner:default --image default
    """
    way = _way(username, password_file, ca_file, insecure=insecure)
    with reported() as progress:
        pushed = asyncio.run(push(_store(store, config), image, target, way, progress=progress))
    if as_json:
        print_json(pushed)
        return
    for part, place in pushed.items():
        typer.echo(f"{part}\t{place}")


@app.command("pull")
def pull_command(
    source: Annotated[str, typer.Argument(help="REGISTRY/REPOSITORY[:TAG] or …@sha256:DIGEST")],
    name: Annotated[str | None, typer.Option("--name", "-n", help="What pools call it here.")] = None,
    username: Username = None,
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
    insecure: Insecure = False,
    store: StorePath = None,
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Pull an image that was pushed by `image push`, and check every file of it.

    Example: firerunner image pull registry.example.com/ci/firerunner@sha256:…
    """
    way = _way(username, password_file, ca_file, insecure=insecure)
    with reported() as progress:
        image = asyncio.run(pull(_store(store, config), source, way, name=name, progress=progress))
    out.print(f"image {image.manifest.name} = {image.manifest.digest[:12]}")


def _way(username: str | None, password_file: Path | None, ca_file: Path | None, *, insecure: bool) -> Way:
    if (username is None) != (password_file is None):
        raise ImageError("--username and --password-file go together", remedy="Give both or neither")
    try:
        password = password_file.read_text().rstrip("\r\n") if password_file else None
    except OSError as error:
        raise ImageError(f"{password_file} cannot be read: {error.strerror}", remedy="See --help") from error
    return Way(username, password, ca_file, insecure)
