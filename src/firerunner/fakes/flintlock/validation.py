"""What Flintlock refuses at once, with its words, and what it takes and never boots. Pure.

Follows Flintlock core/models (validate tags), pkg/validation/validate.go, core/application/commands.go, and
for what does not boot infrastructure/microvm/firecracker/config.go with Firecracker's own limits.
"""

from __future__ import annotations

import base64
import ipaddress
import re

from firerunner.fakes.flintlock.records import META_DATA, METADATA_INTERFACE, Record
from firerunner.machines.flintlock.proto import types_pb2

_DEVICE = re.compile(r"[a-z][a-z0-9_]*")
_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_IMAGE = re.compile(r"[^\s/]+/\S*[^\s/:@]((:\S+)|(@sha256:[0-9a-f]{64}))?")
FIRECRACKER = "firecracker"
MAX_FIRECRACKER_VCPU = 32


def refusal(spec: types_pb2.MicroVMSpec, providers: tuple[str, ...], default: str) -> str | None:
    """The text with which a create is refused (code UNKNOWN); None for a spec that is taken."""
    if not spec.id:
        return "converting request: creating vmid from spec: name is required"
    wrong = _wrong_field(spec)
    if wrong is not None:
        field, rule = wrong
        return (
            "creating microvm: an error occurred when attempting to validate microvm spec: "
            f"validation failures found: Key: 'MicroVM.Spec.{field}' "
            f"Error:Field validation for '{field.rpartition('.')[2]}' failed on the '{rule}' tag"
        )
    provider = spec.provider or default
    if provider not in providers:
        return f"creating microvm: microvm provider {provider} isn't available"
    if provider == FIRECRACKER:
        if any(interface.type == types_pb2.NetworkInterface.MACVTAP for interface in spec.interfaces):
            return "creating microvm: macvtap network interfaces not supported by the microvm provider"
        if any(volume.source.HasField("virtiofs_source") for volume in spec.additional_volumes):
            return "creating microvm: virtiofs not supported by the microvm provider"
    try:
        base64.b64decode(spec.metadata.get(META_DATA, ""), validate=True)
    except ValueError:
        return (
            "creating microvm: adding instance data: decoding existing instance metadata: "
            "illegal base64 data at input byte 0"
        )
    return None


def panics(spec: types_pb2.MicroVMSpec) -> bool:
    """Whether the daemon dies of it: overrides without a bridge name are dereferenced unchecked."""
    return any(
        interface.HasField("overrides") and not interface.overrides.HasField("bridge_name")
        for interface in spec.interfaces
    )


def never_boots(record: Record, *, bridge: str) -> str | None:
    """Why each reconcile of a microVM that was taken fails; None if it boots."""
    spec = record.spec
    if record.provider == FIRECRACKER and (
        spec.vcpu > MAX_FIRECRACKER_VCPU or (spec.vcpu > 1 and spec.vcpu % 2)
    ):
        return f"firecracker: the vCPU number is invalid with SMT: {spec.vcpu}"
    if spec.interfaces[0].guest_mac != "AA:FF:00:00:00:01":
        return (
            f"firecracker: mmds-config without network_interfaces, since ours is named {METADATA_INTERFACE}"
        )
    for interface in spec.interfaces[1:]:
        if not (interface.overrides.bridge_name or bridge):
            return "a parent network device name is required for attaching a TAP interface"
    return None


def _wrong_field(spec: types_pb2.MicroVMSpec) -> tuple[str, str] | None:
    checks = (
        ("VCPU", "lte" if spec.vcpu > 64 else "gte", 1 <= spec.vcpu <= 64),
        ("MemoryInMb", "lte" if spec.memory_in_mb > 32768 else "gte", 1024 <= spec.memory_in_mb <= 32768),
        ("Kernel.Image", "required", bool(spec.kernel.image)),
        ("Kernel.Image", "imageURI", bool(_IMAGE.fullmatch(spec.kernel.image))),
        ("Kernel.Filename", "required", bool(spec.kernel.filename)),
        ("NetworkInterfaces", "required", len(spec.interfaces) > 0),
        ("RootVolume", "required", spec.HasField("root_volume")),
        ("RootVolume", "novirtiofs", not spec.root_volume.source.HasField("virtiofs_source")),
    )
    for field, rule, right in checks:
        if not right:
            return field, rule
    return next(filter(None, map(_wrong_interface, spec.interfaces)), None)


def _wrong_interface(interface: types_pb2.NetworkInterface) -> tuple[str, str] | None:
    place = "NetworkInterfaces[0]"
    if not _DEVICE.fullmatch(interface.device_id):
        return f"{place}.GuestDeviceName", "guestDeviceName"
    if interface.guest_mac and not _MAC.fullmatch(interface.guest_mac):
        return f"{place}.GuestMAC", "mac"
    if interface.HasField("address"):
        if not _is_cidr(interface.address.address):
            return f"{place}.StaticAddress.Address", "cidr"
        if interface.address.HasField("gateway") and not _is_cidr(interface.address.gateway):
            return f"{place}.StaticAddress.Gateway", "cidr"
        if not all(map(_is_address, interface.address.nameservers)):
            return f"{place}.StaticAddress.Nameservers[0]", "ip"
    return None


def _is_cidr(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return "/" in text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
