"""Push images to a container registry and pull them, with skopeo, over TLS and with a password."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from firerunner.errors import ImageError
from firerunner.images.layout import Part, write_layout
from firerunner.images.progress import Progress, silent
from firerunner.images.store import Image, Store
from firerunner.images.tools import Tool, run, search_path
from firerunner.images.unpacking import read_layout
from firerunner.machines.spec import Published

SKOPEO: Final = Tool("skopeo", "skopeo", "pushes and pulls images")
_REFERENCE: Final = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(:\d+)?|\[[0-9a-f:]+\](:\d+)?)/(?P<path>[a-z0-9._/-]+)"
    r"(:(?P<tag>[A-Za-z0-9_][\w.-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))?"
)


_LONGEST_TAG: Final = 120
"""Registries take 128; -kernel is added."""


@dataclass(frozen=True, slots=True)
class Way:
    """How to reach a registry."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """PEM bundle to trust besides the system's."""
    insecure: bool = False
    """Accept plain HTTP and every certificate."""


async def push(
    store: Store, reference: str, target: str, way: Way, *, progress: Progress = silent
) -> dict[Part, str]:
    """Push an image to `HOST/REPOSITORY[:TAG]`, kernel and root for themselves to `TAG-kernel` and
    `TAG-root`; each one's `HOST/REPOSITORY@sha256:…`, by which it can be pulled, and is from now on by hosts
    that make machines of it.

    Raises `ImageError`; what stands under TAG in the registry is then what stood there before.
    """
    where = parse_reference(target)
    if where["digest"]:
        raise ImageError(f"{target} names a digest", remedy="Push to a tag; the digest is told afterwards")
    if len(where["tag"]) > _LONGEST_TAG:
        raise ImageError(f"the tag is longer than {_LONGEST_TAG} characters", remedy="Choose a shorter one")
    _require_skopeo()
    image = store.resolve(reference)
    place, tag = f"{where['host']}/{where['path']}", where["tag"] or "latest"
    pushed: dict[Part, str] = {}
    async with store.stage(progress) as stage:
        layout, work, digest_file = stage / "layout", stage / "work", stage / "digest"
        work.mkdir()
        await write_layout(image.files.root.parent, image.manifest, layout, work, progress)
        options = _options(way, "dest", where["host"], stage)
        for part in (Part.KERNEL, Part.ROOT, Part.IMAGE):  # what is pulled by TAG appears last
            name = tag if part is Part.IMAGE else f"{tag}-{part}"
            await run(
                [
                    *_COPY,
                    *options,
                    f"--digestfile={digest_file}",
                    f"oci:{layout}:{part}",
                    f"docker://{place}:{name}",
                ],
                on_line=_told(progress, f"push {part}"),
                remedy=_REMEDY,
            )
            pushed[part] = f"{place}@{digest_file.read_text().strip()}"
    store.note_published(image, Published(kernel=pushed[Part.KERNEL], root=pushed[Part.ROOT]))
    return pushed


async def pull(
    store: Store, source: str, way: Way, *, name: str | None = None, progress: Progress = silent
) -> Image:
    """Pull an image that was pushed by `push`; every file is checked against the image's own digests.

    `name`: what it is called here; None: as it was called. Raises `ImageError`, and then nothing is kept.
    """
    where = parse_reference(source)
    _require_skopeo()
    place = f"{where['host']}/{where['path']}"
    place += f"@{where['digest']}" if where["digest"] else f":{where['tag'] or 'latest'}"
    async with store.stage(progress) as stage:
        layout, files = stage / "layout", stage / "image"
        options = _options(way, "src", where["host"], stage)
        await run(
            [*_COPY, *options, f"docker://{place}", f"oci:{layout}:{Part.IMAGE}"],
            on_line=_told(progress, "pull"),
            remedy=_REMEDY,
        )
        manifest = await asyncio.to_thread(read_layout, layout, files, progress)
        shutil.rmtree(layout)
        if name is not None and name != manifest.name:
            manifest = manifest.model_copy(update={"name": name})
        progress("check", "checking the files", 0.9)
        return await asyncio.to_thread(store.commit, files, manifest)


_COPY: Final = ("skopeo", "--insecure-policy", "copy", "--preserve-digests")
_REMEDY: Final = (
    "Check the address, --username and --password-file (or `skopeo login`), and --ca-file for a registry "
    "with an authority of its own"
)


def parse_reference(text: str) -> dict[str, str]:
    """`HOST[:PORT]/PATH[:TAG|@DIGEST]` as host, path, tag and digest. Raises `ImageError`."""
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise ImageError(
            f"{text!r} is not a registry and repository",
            remedy="Write it like registry.example.com/ci/firerunner:default",
        )
    return {key: found[key] or "" for key in ("host", "path", "tag", "digest")}


def _options(way: Way, side: str, host: str, stage: Path) -> list[str]:
    """The password goes by a file, because arguments are seen by every process."""
    options = []
    if way.username is not None:
        auth = base64.b64encode(f"{way.username}:{way.password or ''}".encode()).decode()
        file = stage / "auth.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
        options.append(f"--{side}-authfile={file}")
    if way.ca_file is not None:
        directory = stage / "certificates"
        directory.mkdir()
        try:
            shutil.copyfile(way.ca_file, directory / "ca.crt")
        except OSError as error:
            raise ImageError(
                f"{way.ca_file} cannot be read: {error.strerror}", remedy="See --ca-file"
            ) from error
        options.append(f"--{side}-cert-dir={directory}")
    if way.insecure:
        options.append(f"--{side}-tls-verify=false")
    return options


def _told(progress: Progress, step: str) -> Callable[[str], None]:
    return lambda line: progress(step, line, None)


def _require_skopeo() -> None:
    if shutil.which(SKOPEO.tool, path=search_path()) is None:
        raise ImageError("skopeo is missing: it pushes and pulls images", remedy="apt-get install skopeo")
