"""QEMU's command line for a machine, and for the self-test boot: pure, from facts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from firerunner.machines.qemu.egress import GUEST_ADDRESS, HOST_ADDRESS
from firerunner.machines.qemu.order import Fd
from firerunner.machines.qemu.processes import vmm_name

MEMORY_FILE = f"/proc/self/fd/{Fd.MEMORY}"

SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

TRANSLATION_CACHE_MIB = 256
"""QEMU's cache of translated code under emulation; its own default is up to 1024 MiB per machine."""

OVERHEAD_MIB = 256
"""What QEMU and the keeper may use besides the guest's memory and the translation cache."""

SELFTEST_NAME = "firerunner-selftest"

BOOT_FW_CFG = "opt/org.firerunner/boot"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How guests run on this computer, and why not by KVM if not."""

    kind: str
    """`kvm` or `tcg` (emulation)."""
    reason: str

    @property
    def overhead_mib(self) -> int:
        """Memory of one machine's processes beyond the guest's own."""
        return OVERHEAD_MIB + (TRANSLATION_CACHE_MIB if self.kind == "tcg" else 0)


def kernel_arguments(tsc_khz: int, *extra: str) -> str:
    """The kernel's command line.

    `tsc_early_khz` avoids a calibration that hangs about a quarter of emulated boots; `reboot=t` and
    `panic=-1` make both the guest's reboot and its panic end QEMU.
    """
    fixed = "console=ttyS0 quiet panic=-1 reboot=t no_timer_check cryptomgr.notests"
    return " ".join([fixed, f"tsc_early_khz={tsc_khz}", *extra])


class Start(Enum):
    """How a machine comes to run."""

    COLD = auto()  # it boots
    TEMPLATE = auto()  # it boots, and is saved before it needs anything of its own
    RESTORED = auto()  # it goes on where a template was saved


def machine_command(
    qemu: str,
    directory: Path,
    accelerator: Accelerator,
    tsc_khz: int,
    *,
    vcpu: int,
    memory_mib: int,
    start: Start = Start.COLD,
) -> list[str]:
    """The command line of a machine; files come by the descriptors of `order.Fd`.

    The machine's directory is its name: that is how its processes are found again. A machine that is
    restored has the devices of its template, and no kernel: that one is in the memory already.
    """
    arguments = kernel_arguments(
        tsc_khz,
        *(("fr.template=1",) if start is Start.TEMPLATE else ()),
        f"fr.address={GUEST_ADDRESS}/24",
        f"fr.gateway={HOST_ADDRESS}",
        f"fr.resolver={HOST_ADDRESS}",
        "fr.root=vda",
        "fr.overlay=vdb",
    )
    file = "driver=file,cache.no-flush=on"
    kernel = (
        *("-kernel", f"/proc/self/fd/{Fd.KERNEL}", "-initrd", f"/proc/self/fd/{Fd.INITRAMFS}"),
        *("-append", arguments),
    )
    return [
        *_base(qemu, vmm_name(directory), accelerator, vcpu, memory_mib, start),
        *(("-incoming", "defer") if start is Start.RESTORED else kernel),
        *("-fw_cfg", f"name={BOOT_FW_CFG},file=/proc/self/fd/{Fd.BOOT}"),
        *("-add-fd", f"fd={Fd.ROOT},set=1", "-add-fd", f"fd={Fd.DISK},set=2"),
        *("-blockdev", f"node-name=root,{file},filename=/dev/fdset/1,read-only=on"),
        *("-device", "virtio-blk-device,drive=root"),
        *("-blockdev", f"node-name=disk,{file},filename=/dev/fdset/2,discard=unmap"),
        *("-device", "virtio-blk-device,drive=disk"),
        *("-netdev", f"tap,id=net,fd={Fd.TAP}", "-device", "virtio-net-device,netdev=net,guest_announce=off"),
        *("-device", "virtio-rng-device"),
        *("-chardev", f"socket,id=qmp,fd={Fd.QMP}", "-mon", "chardev=qmp,mode=control"),
    ]


def selftest_command(qemu: str, tsc_khz: int, kernel: str, initramfs: str) -> list[str]:
    """The command line of the self-test boot by KVM: no disk, no network, ends by itself."""
    return [
        *_base(qemu, f"guest={SELFTEST_NAME}", Accelerator("kvm", ""), 1, 256),
        *("-kernel", kernel, "-initrd", initramfs),
        *("-append", kernel_arguments(tsc_khz, "fr.selftest=1")),
    ]


def _base(
    qemu: str,
    name: str,
    accelerator: Accelerator,
    vcpu: int,
    memory_mib: int,
    start: Start = Start.COLD,
) -> list[str]:
    kvm = accelerator.kind == "kvm"
    return [
        qemu,
        *("-name", name),
        *_memory(memory_mib, start),
        *("-accel", "kvm" if kvm else f"tcg,thread=multi,tb-size={TRANSLATION_CACHE_MIB}"),
        *("-cpu", "host" if kvm else "max"),
        *("-smp", str(vcpu), "-m", str(memory_mib)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-serial", "stdio", "-sandbox", SANDBOX),
    ]


def _memory(memory_mib: int, start: Start) -> tuple[str, ...]:
    """Of a template, the guest writes to the file; of a restored machine, only to pages of its own."""
    machine = "microvm,acpi=on,rtc=on,dump-guest-core=off"
    if start is Start.COLD:
        return ("-machine", machine)
    share = "on" if start is Start.TEMPLATE else "off"
    file = f"memory-backend-file,id=ram,size={memory_mib}M,mem-path={MEMORY_FILE},share={share}"
    return ("-object", file, "-machine", f"{machine},memory-backend=ram")
