"""Decides how guests run here: by KVM only if a guest has really booted with it.

A /dev/kvm that opens says little: in nested or emulated environments it may be present and far too
slow, or lack what a guest kernel needs. So the image's own kernel and initramfs are booted once with
it, under the same user and sandbox as a machine.
"""

from __future__ import annotations

import subprocess

from firerunner.machines.qemu.command import SELFTEST_NAME, Accelerator, selftest_command
from firerunner.machines.qemu.confine import hand_nothing_down
from firerunner.machines.qemu.identity import KVM_DEVICE, identity_of
from firerunner.machines.spec import ImageFiles

SELFTEST_OK = b"FIRERUNNER-SELFTEST-OK"

SELFTEST_DEADLINE_S = 10
"""A guest boots in under a second with a working KVM, in 3 s by emulation."""


def find_accelerator(qemu: str, image: ImageFiles, tsc_khz: int) -> Accelerator:
    """Boot the image by KVM where there is one. Takes up to `SELFTEST_DEADLINE_S` seconds."""
    if not KVM_DEVICE.exists():
        return Accelerator("tcg", f"there is no {KVM_DEVICE} on this computer")
    identity = identity_of(SELFTEST_NAME, kvm=True)
    with image.kernel.open("rb") as kernel, image.initramfs.open("rb") as initramfs:
        files = (kernel.fileno(), initramfs.fileno())
        paths = [f"/proc/self/fd/{fd}" for fd in files]
        command = selftest_command(qemu, tsc_khz, *paths)
        # `timeout` ends QEMU also if we are killed meanwhile.
        boot = subprocess.run(
            ["timeout", "--signal=KILL", str(SELFTEST_DEADLINE_S), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "LANG": "C"},
            pass_fds=files,
            start_new_session=True,
            umask=0o077,
            user=identity and identity.uid,
            group=identity and identity.gid,
            extra_groups=identity and identity.groups,
            preexec_fn=hand_nothing_down,
        )
    return judge(boot.stdout, boot.stderr)


def judge(console: bytes, stderr: bytes) -> Accelerator:
    """What a self-test boot by KVM has shown."""
    if SELFTEST_OK in console:
        return Accelerator("kvm", "a guest has booted with it")
    complaint = stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    if "qemu" in complaint:
        return Accelerator("tcg", f"QEMU cannot use {KVM_DEVICE}: {complaint}")
    return Accelerator("tcg", f"a guest did not boot with {KVM_DEVICE} within {SELFTEST_DEADLINE_S} s")
