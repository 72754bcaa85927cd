"""The ELF kernel and the modules come out of what Debian packs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from firerunner.errors import ImageError
from firerunner.images.kernel import extract_vmlinux, module_closure, unsigned


def bzimage(tmp_path: Path, content: bytes) -> Path:
    """Setup code, the packed content, and what follows it in a real bzImage."""
    packed = subprocess.run(["lz4", "-l", "-c"], input=content, capture_output=True, check=True).stdout
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"MZ setup code" * 50 + packed + b"\0garbage" * 9)
    return path


def module(tree: Path, name: str, depends: str) -> None:
    path = tree / "kernel" / f"{name}.ko"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(b"\x7fELF...\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0")


@pytest.mark.anyio
async def test_the_elf_kernel_comes_out_whole(tmp_path: Path) -> None:
    kernel = b"\x7fELF" + bytes(range(256)) * 1000

    await extract_vmlinux(bzimage(tmp_path, kernel), tmp_path / "kernel")

    assert (tmp_path / "kernel").read_bytes() == kernel
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernel", "vmlinuz"]


@pytest.mark.anyio
async def test_what_is_not_a_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no ELF kernel came out of vmlinuz"):
        await extract_vmlinux(bzimage(tmp_path, b"not a kernel" * 100), tmp_path / "kernel")


@pytest.mark.anyio
async def test_a_kernel_packed_otherwise_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"\xfd7zXZ")

    with pytest.raises(ImageError, match="linux-image-cloud-amd64"):
        await extract_vmlinux(tmp_path / "vmlinuz", tmp_path / "kernel")


def test_dependencies_come_first_and_once(tmp_path: Path) -> None:
    module(tmp_path, "virtio", "virtio_ring")
    module(tmp_path, "virtio_ring", "")
    module(tmp_path, "virtio_net", "virtio,net-failover,virtio_ring")
    module(tmp_path, "net_failover", "")

    closure = module_closure(tmp_path, ["virtio_net", "virtio"])

    assert list(closure) == ["virtio_ring", "virtio", "net_failover", "virtio_net"]


def test_a_module_that_is_built_in_is_not_missed(tmp_path: Path) -> None:
    module(tmp_path, "overlay", "ext4")

    assert list(module_closure(tmp_path, ["overlay", "squashfs"])) == ["overlay"]


def test_a_modules_signature_is_taken_off_and_an_unsigned_one_stays_as_it_is() -> None:
    module, signature = b"\x7fELF of a module", b"s" * 300
    facts = bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(signature).to_bytes(4, "big")

    assert unsigned(module + signature + facts + b"~Module signature appended~\n") == module
    assert unsigned(module) == module
