"""Settings: where machines run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from firerunner.machines.spec import Resources
from firerunner.settings.secrets import ReadableFile, WithSecrets
from firerunner.settings.values import Address, Duration, Section, checked_url

_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,62}[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_BRIDGE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
"""Linux: IFNAMSIZ, with its closing zero."""
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")

_ONLY = {
    "qemu": ("disk_dir", "keep_free_mib"),
    "flintlock": ("address", "tls", "token", "insecure", "namespace", "bridge", "gate_url", "timeout"),
}
"""Keys that one driver alone understands."""


def _labels(value: object) -> object:
    if isinstance(value, dict):
        for key, text in value.items():
            if not _LABEL.fullmatch(str(key)) or not _LABEL.fullmatch(str(text)):
                raise ValueError(f"{key}: {text}: expected letters, digits and . _ / -, at most 63 of them")
        return {str(key): str(text) for key, text in value.items()}
    return value


Labels = Annotated[dict[str, str], BeforeValidator(_labels)]
"""Words by which pools choose hosts, such as `zone: a`."""


class TlsSettings(Section):
    """Certificates of both sides. Flintlock speaks TLS 1.3 only."""

    ca_file: ReadableFile | None = None
    """PEM bundle of the authority of the host's certificate. None: the system's authorities."""

    cert_file: ReadableFile | None = None
    """Our certificate (PEM), where the host asks for one (--tls-client-validate)."""

    key_file: ReadableFile | None = None
    """The key of `cert_file` (PEM)."""

    server_name: str | None = None
    """The name in the host's certificate. None: that of `address`."""

    @model_validator(mode="after")
    def _are_a_pair(self) -> TlsSettings:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file are given both or not at all")
        return self


class HostSettings(WithSecrets):
    """One host. What is not given is found out by the driver where it can be."""

    name: str = "local"
    """What pools, logs, `firerunner machines` and `firerunner hosts` call it."""

    driver: Literal["qemu", "flintlock"] = "qemu"
    """What makes the machines: `qemu`, on this computer; or the `flintlock` daemon of another one."""

    labels: Labels = Field(default_factory=dict)
    """Words by which pools choose it, such as `zone: a`."""

    vcpu: int | None = Field(default=None, ge=1)
    """vCPUs to give out. None: twice the computer's cores; needed for `flintlock`, which tells nothing."""

    memory_mib: int | None = Field(default=None, ge=128)
    """Memory to give out in MiB. None: four fifths of what the computer has; needed for `flintlock`."""

    disk_mib: int | None = Field(default=None, ge=64)
    """Disk to give out in MiB. None: four fifths of what is free where the disks are; needed for
    `flintlock`."""

    overcommit_vcpu: float = Field(default=1.0, ge=1.0, le=64.0)
    """`vcpu` times this are given out: jobs that wait leave their cores to others."""

    overcommit_memory: float = Field(default=1.0, ge=1.0, le=8.0)
    """`memory_mib` times this are given out. More than 1 may end in the host killing machines."""

    disk_dir: Path | None = None
    """qemu: where the machines' writable disks are. None: with the machines, in the state directory."""

    keep_free_mib: int = Field(default=1024, ge=0)
    """qemu: no machine is made while the disks' file system has less than this free, in MiB."""

    address: Address | None = None
    """flintlock: where the daemon listens (--grpc-endpoint), host:port."""

    tls: TlsSettings | None = None
    """flintlock: how its certificate is checked and what it is shown. None: only with `insecure`."""

    token: SecretStr | None = None
    """flintlock: the daemon's --basic-auth-token. None: it has none."""

    insecure: bool = False
    """flintlock: speak to the daemon, or let guests speak to the gate, in clear. For trials on one
    computer."""

    namespace: str = "firerunner"
    """flintlock: the namespace of our machines there. Nobody else may use it, nor another FireRunner: what
    looks like a machine and is not in the ledger is destroyed."""

    bridge: str | None = None
    """flintlock: the bridge that machines are attached to. None: the daemon's own (--bridge-name)."""

    gate_url: str = ""
    """flintlock: the gate as guests on this host reach it, such as https://gate.example.com:8443."""

    timeout: Duration = Field(default=15.0, ge=1.0, le=300.0)
    """flintlock: how long one call may take. A create that has lost its answer is looked for afterwards."""

    @field_validator("name")
    @classmethod
    def _is_plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("expected small letters, digits, dots and dashes, at most 64")
        return value

    @field_validator("namespace")
    @classmethod
    def _is_a_namespace(cls, value: str) -> str:
        if not _NAMESPACE.fullmatch(value):
            raise ValueError(
                "expected small letters, digits and dashes, at most 40 (a slash breaks Flintlock's own keys)"
            )
        return value

    @field_validator("bridge")
    @classmethod
    def _is_a_device(cls, value: str | None) -> str | None:
        if value is not None and not _BRIDGE.fullmatch(value):
            raise ValueError("expected the name of a network device, at most 15 characters")
        return value

    @field_validator("gate_url")
    @classmethod
    def _is_a_base_url(cls, value: str) -> str:
        if value and urlsplit(value).path.strip("/"):
            raise ValueError("expected http(s)://host[:port] without a path")
        return checked_url(value) if value else value

    @model_validator(mode="after")
    def _fits_its_driver(self) -> HostSettings:
        for driver, names in _ONLY.items():
            strange = [name for name in names if name in self.model_fields_set]
            if driver != self.driver and strange:
                raise ValueError(f"{strange[0]} is for driver: {driver}, and this host's is {self.driver}")
        for factor, amount in (("overcommit_vcpu", "vcpu"), ("overcommit_memory", "memory_mib")):
            if getattr(self, factor) > 1 and getattr(self, amount) is None:
                raise ValueError(f"{factor} is more than 1: say {amount} as well")
        if self.driver == "flintlock":
            self._is_complete()
        return self

    def _is_complete(self) -> None:
        needed = ("address", "gate_url", "vcpu", "memory_mib", "disk_mib")
        missing = [name for name in needed if getattr(self, name) in (None, "")]
        if missing:
            raise ValueError(f"driver: flintlock needs {', '.join(missing)}")
        if self.insecure:
            return
        if self.tls is None:
            raise ValueError("tls is missing (`tls: {}`: the system's authorities), or say `insecure: true`")
        if not self.gate_url.startswith("https:"):
            raise ValueError("gate_url must be https, or say `insecure: true`: job tokens go that way")

    @property
    def room(self) -> Resources:
        """What is given out where the operator says all of it. Raises ValueError where not."""
        if self.vcpu is None or self.memory_mib is None or self.disk_mib is None:
            raise ValueError(f"host {self.name} finds out itself what it has")
        return Resources(
            int(self.vcpu * self.overcommit_vcpu),
            int(self.memory_mib * self.overcommit_memory),
            self.disk_mib,
        )

    def has_labels(self, wanted: dict[str, str]) -> bool:
        """True if it has all of them."""
        return wanted.items() <= self.labels.items()
