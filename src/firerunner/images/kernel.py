"""Takes the ELF kernel and its modules out of Debian's kernel package.

The package holds a bzImage, whose setup code unpacks an ELF kernel; booted directly (PVH), the ELF
saves half a second per boot under emulation. Debian's cloud kernel packs it as an LZ4 legacy frame.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from pathlib import Path

from firerunner.errors import ImageError
from firerunner.images.tools import run

_LZ4_LEGACY_MAGIC = b"\x02\x21\x4c\x18"
_ELF_MAGIC = b"\x7fELF"
_SIGNED = b"~Module signature appended~\n"
_SIGNATURE_FACTS_BYTES = 12
_SIGNATURE_LENGTH = struct.Struct(">I")
"""The last of these facts."""

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


def frame(bzimage: bytes) -> bytes:
    """The compressed kernel in a bzImage, with the garbage that follows it."""
    start = bzimage.find(_LZ4_LEGACY_MAGIC)
    if start < 0:
        raise ImageError(
            "the kernel is not packed with LZ4",
            remedy="Use Debian's linux-image-cloud-amd64 as kernel_package",
        )
    return bzimage[start:]


async def extract_vmlinux(bzimage: Path, vmlinux: Path) -> None:
    """Write the ELF kernel that is inside a bzImage. Raises `ImageError` if there is none."""
    packed = vmlinux.with_suffix(".lz4")
    _copy_frame(bzimage, packed)
    complaint = ""
    try:
        await run(["lz4", "-q", "-d", "-f", str(packed), str(vmlinux)])
    except ImageError as error:
        # lz4 unpacks the kernel whole, then stumbles over what follows the frame: the ELF header tells.
        complaint = error.message
    packed.unlink()
    if not _is_elf(vmlinux):
        raise ImageError(f"no ELF kernel came out of {bzimage.name}: {complaint}")


def _copy_frame(bzimage: Path, packed: Path) -> None:
    packed.write_bytes(frame(bzimage.read_bytes()))


def _is_elf(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_ELF_MAGIC)) == _ELF_MAGIC


def module_closure(tree: Path, wanted: Iterable[str]) -> dict[str, bytes]:
    """The wanted kernel modules and all that they depend on, by name, in an order that insmod accepts.

    `tree` is the package's `lib/modules/VERSION`. A module that is not there is taken to be built in.
    """
    paths = {_plain(path.stem): path for path in tree.rglob("*.ko")}
    closure: dict[str, bytes] = {}

    def add(name: str) -> None:
        path = paths.get(_plain(name))
        if path is None or path.stem in closure:
            return
        content = path.read_bytes()
        match = _DEPENDS.search(b"\0" + content)
        for dependency in (match[1].decode() if match else "").split(","):
            add(dependency)
        closure[path.stem] = content

    for name in wanted:
        add(name)
    return closure


def unsigned(module: bytes) -> bytes:
    """The module without its signature, whose check is a quarter of the time that loading it takes.

    The initramfs that holds it is checked as a whole by its digest; the kernel notes `E` in its taint flags.
    Source: Linux include/linux/module_signature.h.
    """
    if not module.endswith(_SIGNED):
        return module
    end = len(module) - len(_SIGNED)
    (signature_bytes,) = _SIGNATURE_LENGTH.unpack(module[end - _SIGNATURE_LENGTH.size : end])
    return module[: end - _SIGNATURE_FACTS_BYTES - signature_bytes]


def _plain(name: str) -> str:
    """Module names are the same with `-` and `_` (kmod)."""
    return name.replace("-", "_")
