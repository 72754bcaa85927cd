"""Makes the root file system: Debian packages and the runner, as a small read-only ext4 image.

As root it works directly; as a normal user in a user namespace (mmdebstrap's unshare mode), so that
files are root's in the image all the same. What comes out knows nothing of this computer's mirror.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from firerunner.images.apt import Apt
from firerunner.images.keys import dearmored
from firerunner.images.recipe import AptSource, ExtraFile
from firerunner.images.tools import run

_MIB: Final = 1 << 20
_BLOCK: Final = 4096
_INODE_SIZE: Final = 256
_DROPPED_PATHS: Final = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)
DOCKER_ROOT: Final = "/var/lib/docker"
"""Where the first stage binds a directory of the machine's disk: Docker's layers cannot lie on an overlay."""
_RUNNER_PATH: Final = "/usr/local/bin/gitlab-runner"
_NAMESPACE: Final = ("unshare", "--user", "--map-root-user", "--map-auto", "--")


@dataclass(frozen=True, slots=True)
class RootRecipe:
    """What goes into the root file system."""

    suite: str
    packages: Sequence[str]
    runner: Path
    files: Sequence[ExtraFile] = ()
    commands: Sequence[str] = ()
    modules: Path | None = None
    """The kernel package's `lib/modules/VERSION`, to go in. None: without modules."""
    docker: bool = False
    apt: Sequence[AptSource] = ()
    guest_files: Mapping[str, bytes] = field(default_factory=dict)
    """More of our own files, by their place in the root."""


async def build_root(
    recipe: RootRecipe, apt: Apt, work: Path, image: Path, on_line: Callable[[str], None]
) -> None:
    """Write the ext4 image. `work` is a directory for what is in between; the caller removes it."""
    tarball = work / "root.tar"

    def on_step(line: str) -> None:
        if line.startswith("I: ") and "hook" not in line:
            on_line(line.removeprefix("I: "))

    await run(
        mmdebstrap_command(recipe, apt, tarball, *_prepare(recipe, work)),
        env={"TMPDIR": str(work)} if os.geteuid() == 0 else None,
        on_line=on_step,
        remedy="Check that `apt-get update` works on this computer",
    )
    on_line("making the ext4 image")
    script = work / "mkfs.sh"
    script.write_text(_MKFS)
    namespace = () if os.geteuid() == 0 else _NAMESPACE
    await run([*namespace, "sh", "-eu", str(script), str(tarball), str(work / "tree"), str(image)])


def mmdebstrap_command(
    recipe: RootRecipe, apt: Apt, tarball: Path, own: Path | None = None, more_sources: Path | None = None
) -> list[str]:
    """The one mmdebstrap call. Hooks are shell text in which `$1` is the new root.

    `own`: a tree to be laid over it; `more_sources`: a sources.list beside apt's.
    """
    sources = "".join(f"{source.line()}\n" for source in apt.sources)
    sources += "".join(f"{each.line(_guest_key(number))}\n" for number, each in enumerate(recipe.apt))
    hooks = (
        f"upload {shlex.quote(str(recipe.runner))} {_RUNNER_PATH}",
        f'chmod 0755 "$1{_RUNNER_PATH}"',
        'mkdir -p "$1/builds" "$1/cache"',
        'chroot "$1" git lfs install --system --skip-repo',
        *([f"sync-in {shlex.quote(str(own))} /"] if own else []),
        'rm -f "$1"/etc/apt/sources.list.d/*',
        f'printf %s {shlex.quote(sources)} > "$1/etc/apt/sources.list"',
        *_module_hooks(recipe.modules),
        *([f'mkdir -p "$1{DOCKER_ROOT}"'] if recipe.docker else []),
        *(hook for each in recipe.files for hook in _file_hooks(each)),
        *(f'chroot "$1" /bin/sh -ec {shlex.quote(command)}' for command in recipe.commands),
        *(hook for each in recipe.files for hook in _owner_hooks(each)),
        # The guest learns names from the gate's hosts file, and who it is from its boot parameters.
        ': > "$1/etc/resolv.conf"; : > "$1/etc/machine-id"; echo "127.0.0.1 localhost" > "$1/etc/hosts"',
        'rm -f "$1/etc/hostname" "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        'rm -rf "$1"/var/log/*.log "$1"/var/log/apt "$1"/var/cache/* "$1"/var/lib/apt/lists/*',
    )
    as_root = os.geteuid() == 0
    return [
        "mmdebstrap",
        f"--mode={'root' if as_root else 'unshare'}",
        "--variant=minbase",
        "--architectures=amd64",
        "--format=tar",
        f"--include={','.join(recipe.packages)}",
        f"--aptopt={apt.settings_file}",
        '--aptopt=Acquire::Languages "none"',
        # Keys lie in a directory of this user, which apt's own user may not be let into.
        *(['--aptopt=APT::Sandbox::User "root"'] if recipe.apt and not as_root else []),
        # Neither here nor in a machine, which is thrown away, is anything gained by waiting for the disk.
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={path}" for path in _DROPPED_PATHS),
        *(f"--customize-hook={hook}" for hook in hooks),
        recipe.suite,
        str(tarball),
        str(apt.sources_file),
        *([str(more_sources)] if more_sources else []),
    ]


def _prepare(recipe: RootRecipe, work: Path) -> tuple[Path | None, Path | None]:
    """Write what mmdebstrap is given as files: our own tree, and the sources beside Debian's."""
    files = dict(recipe.guest_files)
    lines = []
    for number, each in enumerate(recipe.apt):
        key = work / f"key-{number}.gpg"
        key.write_bytes(dearmored(each.key.read_bytes()))
        files[_guest_key(number)] = key.read_bytes()
        lines.append(f"{each.line(str(key))}\n")
    sources = work / "more-sources.list"
    sources.write_text("".join(lines))
    return _own_files(files, work / "own"), sources if lines else None


def _guest_key(number: int) -> str:
    return f"/etc/apt/keyrings/firerunner-{number}.gpg"


def _own_files(files: Mapping[str, bytes], tree: Path) -> Path | None:
    if not files:
        return None
    for place, content in files.items():
        path = tree / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if content.startswith(b"#!") else 0o644)
    return tree


def _module_hooks(modules: Path | None) -> list[str]:
    """All of the kernel's modules, with an index by which modprobe finds them."""
    if modules is None:
        return []
    return [
        'mkdir -p "$1/lib/modules"',
        f"copy-in {shlex.quote(str(modules))} /lib/modules",
        f'chroot "$1" depmod {shlex.quote(modules.name)}',
    ]


def _file_hooks(each: ExtraFile) -> list[str]:
    destination = shlex.quote(each.destination)
    plain = shlex.quote(f"{each.destination}.plain")
    unpack = f"{each.unpack} -dc {destination} > {plain} && mv {plain} {destination}"
    return [
        f'mkdir -p "$1"{shlex.quote(str(PurePosixPath(each.destination).parent))}',
        f"upload {shlex.quote(str(each.source))} {destination}",
        *([f'chroot "$1" /bin/sh -ec {shlex.quote(unpack)}'] if each.unpack else []),
        f'chmod {each.mode} "$1"{destination}',
    ]


def _owner_hooks(each: ExtraFile) -> list[str]:
    """After the commands, which may have made the user. chown takes a set-user-id bit away."""
    if each.owner == "root":
        return []
    destination = shlex.quote(each.destination)
    return [f'chroot "$1" chown {each.owner} {destination}', f'chroot "$1" chmod {each.mode} {destination}']


# Room: what the files take in whole blocks, a twentieth more for directories and extents, the inodes.
# No journal and no reserve, because nobody ever writes to it.
_MKFS: Final = f"""
tarball=$1 tree=$2 image=$3
trap 'rm -rf "$tree"' EXIT
trap 'exit 143' INT TERM
mkdir -m 755 "$tree"
tar -x -f "$tarball" -C "$tree" --numeric-owner --exclude='./dev/*'
rm "$tarball"
inodes=$(($(find "$tree" | wc -l) + 1024))
blocks=$(du -s --block-size={_BLOCK} "$tree" | cut -f 1)
blocks=$((blocks + blocks / 20 + inodes * {_INODE_SIZE} / {_BLOCK} + 2048))
mkfs.ext4 -q -F -b {_BLOCK} -I {_INODE_SIZE} -N "$inodes" -m 0 -O ^has_journal,^resize_inode \\
    -L firerunner-root -E nodiscard,root_owner=0:0 -d "$tree" "$image" "$blocks"
"""
