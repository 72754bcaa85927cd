"""What is asked of Flintlock for one machine, and what it would take and never boot. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field

from firerunner.errors import SpecRefused
from firerunner.machines.flintlock.proto import types_pb2
from firerunner.machines.spec import MACHINE_ID, ImageFiles, MachineSpec, Resources

PROVIDER = "firecracker"
INTERFACE = "eth1"
"""`eth0` is the interface that Flintlock adds for the metadata; a caller's own of that name takes its place,
and then no microVM starts."""

KERNEL_FILE, INITRAMFS_FILE = "kernel", "initramfs"
"""Their names in the kernel's image (`images.layout`)."""

BOOT_ITEM = "firerunner"
"""The metadata item with the boot parameters: http://169.254.169.254/latest/firerunner in the guest."""

CA_ITEM = "firerunner-ca"
"""The metadata item with the authority of the gate's certificate, PEM."""

METADATA_ADDRESS = "169.254.169.254"
"""Of Firecracker's metadata service, version 1, as Flintlock sets it up on the first interface."""

MIN_MEMORY_MIB, MAX_MEMORY_MIB = 1024, 32768
MAX_VCPU = 32

_ATTEMPT = re.compile(rf"({MACHINE_ID.pattern})-[0-9a-f]{{6}}")


@dataclass(frozen=True, slots=True)
class Place:
    """What all machines of a host have in common."""

    namespace: str
    gate_url: str
    """The gate as guests of this host reach it, without a slash at the end."""
    bridge: str | None = None
    """None: the daemon's own --bridge-name."""
    gate_ca_pem: str | None = field(default=None, repr=False)
    """By what guests know the gate's certificate; None: by what is in the image."""


def refused_size(resources: Resources) -> str | None:
    """Why Flintlock would not make machines of this size, or make them and never boot them; None if it does.

    On x86, Flintlock switches SMT on, and Firecracker then takes one vCPU or an even number (Flintlock
    infrastructure/microvm/firecracker/config.go; Firecracker vmm_config/machine_config.rs).
    """
    if resources.vcpu > MAX_VCPU or (resources.vcpu > 1 and resources.vcpu % 2):
        return f"{resources.vcpu} vCPU: Firecracker boots with 1 or an even number, at most {MAX_VCPU}"
    if not MIN_MEMORY_MIB <= resources.memory_mib <= MAX_MEMORY_MIB:
        return f"{resources.memory_mib} MiB memory: Flintlock makes {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB} MiB"
    return None


def refused_image(image: ImageFiles) -> str | None:
    """Why hosts could not pull it; None if they can."""
    if image.published is None:
        return (
            f"image {image.digest[:12]} is in no registry that its hosts could pull it from: "
            "run firerunner image push"
        )
    return None


def attempt_name(machine_id: str, attempt: str) -> str:
    """The name of one attempt to make a machine; `attempt` is six hex digits that are not used again."""
    return f"{machine_id}-{attempt}"


def machine_of(name: str) -> str | None:
    """Whose attempt has this name; None for a stranger's."""
    found = _ATTEMPT.fullmatch(name)
    return found[1] if found else None


def guest_mac(machine_id: str) -> str:
    """A locally administered address that is the same for a machine and different for others (46 bits)."""
    digest = hashlib.sha256(machine_id.encode()).digest()[:6]
    return ":".join(f"{byte:02x}" for byte in ((digest[0] & 0xFC) | 0x02, *digest[1:]))


def guest_gate_url(place: Place, machine_id: str) -> str:
    """Every call of a guest names its machine."""
    return f"{place.gate_url}/m/{machine_id}"


def microvm_spec(spec: MachineSpec, place: Place, name: str) -> types_pb2.MicroVMSpec:
    """The request. Raises `SpecRefused` for what Flintlock could not do."""
    reason = refused_size(spec.resources)
    if reason is not None:
        raise SpecRefused(f"{spec.machine_id}: {reason}", remedy="Change the pool")
    published = spec.image.published
    if published is None:
        raise SpecRefused(f"{spec.machine_id}: {refused_image(spec.image)}")
    made = types_pb2.MicroVMSpec(
        id=name,
        namespace=place.namespace,
        vcpu=spec.resources.vcpu,
        memory_in_mb=spec.resources.memory_mib,
        provider=PROVIDER,
    )
    made.kernel.image = published.kernel
    made.kernel.filename = KERNEL_FILE
    made.kernel.cmdline["quiet"] = ""
    made.kernel.cmdline["fr.root"] = "vda"
    made.kernel.cmdline["fr.writable"] = "1"
    made.kernel.cmdline["fr.metadata"] = METADATA_ADDRESS
    made.initrd.image = published.kernel
    made.initrd.filename = INITRAMFS_FILE
    made.root_volume.id = "root"
    made.root_volume.source.container_source = published.root
    interface = made.interfaces.add(
        device_id=INTERFACE, type=types_pb2.NetworkInterface.TAP, guest_mac=guest_mac(spec.machine_id)
    )
    if place.bridge is not None:  # overrides without a bridge's name end the daemon
        interface.overrides.bridge_name = place.bridge
    made.metadata[BOOT_ITEM] = _encoded(_boot_parameters(spec, place))
    if place.gate_ca_pem is not None:
        made.metadata[CA_ITEM] = _encoded(place.gate_ca_pem)
    return made


def _encoded(text: str) -> str:
    """Always base64: Flintlock would decode a plain text that happens to be some."""
    return base64.b64encode(text.encode()).decode()


def _boot_parameters(spec: MachineSpec, place: Place) -> str:
    return (
        f"machine_id={spec.machine_id}\n"
        f"gate_url={guest_gate_url(place, spec.machine_id)}\n"
        f"credential={spec.credential}\n"
    )
