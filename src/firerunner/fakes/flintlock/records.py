"""What the fake keeps of each microVM, and how it is shown: as Flintlock stores it, and as it answers.

Follows Flintlock infrastructure/grpc/convert.go: labels are dropped, times and provider are not shown, and
there is no address anywhere.
"""

from __future__ import annotations

import base64
import secrets
import time
from dataclasses import dataclass

import yaml

from firerunner.machines.flintlock.proto import types_pb2

PENDING, CREATED, FAILED, DELETING = (
    types_pb2.MicroVMStatus.PENDING,
    types_pb2.MicroVMStatus.CREATED,
    types_pb2.MicroVMStatus.FAILED,
    types_pb2.MicroVMStatus.DELETING,
)
METADATA_INTERFACE = "eth0"
META_DATA = "meta-data"
DEFAULT_NAMESPACE = "default"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(slots=True)
class Record:
    """One microVM in the fake's store."""

    uid: str
    spec: types_pb2.MicroVMSpec
    """As it is stored: with defaults, without labels, with the interface for metadata."""
    provider: str
    state: types_pb2.MicroVMStatus.MicroVMState = PENDING
    version: int = 1
    retry: int = 0
    not_before: float = 0.0
    """Loop time before which no reconcile does anything."""
    deleted: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name, which may be another's too."""
        return self.spec.namespace, self.spec.id

    def shown(self) -> types_pb2.MicroVM:
        """As Get and List answer."""
        status = types_pb2.MicroVMStatus(state=self.state, retry=self.retry)
        made = self.state == CREATED
        if made:
            status.kernel_mount.type = types_pb2.Mount.HOSTPATH
        for interface in self.spec.interfaces:
            named = status.network_interfaces[interface.device_id]
            named.host_device_name = f"fltap{secrets.token_hex(4)[:7]}" if made else ""
        for volume in (self.spec.root_volume, *self.spec.additional_volumes):
            status.volumes[volume.id].mount.type = types_pb2.Mount.DEV
        return types_pb2.MicroVM(version=self.version, spec=self.spec, status=status)


def stored(spec: types_pb2.MicroVMSpec, uid: str, default_provider: str) -> Record:
    """The record for a spec that has been found valid."""
    kept = types_pb2.MicroVMSpec()
    kept.CopyFrom(spec)
    kept.ClearField("labels")
    for name in ("created_at", "updated_at", "deleted_at", "provider"):
        kept.ClearField(name)
    kept.uid = uid
    said = yaml.safe_load(base64.b64decode(kept.metadata[META_DATA])) or {}
    said.setdefault("instance_id", uid)
    kept.metadata[META_DATA] = base64.b64encode(yaml.safe_dump(said).encode()).decode()
    if not any(interface.device_id == METADATA_INTERFACE for interface in kept.interfaces):
        theirs = list(kept.interfaces)
        del kept.interfaces[:]
        own = kept.interfaces.add(
            device_id=METADATA_INTERFACE, type=types_pb2.NetworkInterface.TAP, guest_mac="AA:FF:00:00:00:01"
        )
        own.address.address = "169.254.0.1/16"
        kept.interfaces.extend(theirs)
    return Record(uid, kept, spec.provider or default_provider)


def with_defaults(spec: types_pb2.MicroVMSpec) -> types_pb2.MicroVMSpec:
    """What an empty field means (pkg/defaults)."""
    filled = types_pb2.MicroVMSpec()
    filled.CopyFrom(spec)
    filled.namespace = spec.namespace or DEFAULT_NAMESPACE
    filled.vcpu = spec.vcpu or 2
    filled.memory_in_mb = spec.memory_in_mb or 1024
    return filled


def new_ulid() -> str:
    """26 characters: 48 bits of time in ms, 80 random bits (the ULID specification)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return "".join(_CROCKFORD[number >> shift & 31] for shift in range(125, -1, -5))
