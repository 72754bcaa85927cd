"""Settings: the pools, each one GitLab runner with its size, image, limits and egress."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, field_validator

from firerunner.machines.spec import Destination, Resources
from firerunner.settings.values import Duration, WithSecrets, split_address

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
GITLAB = "gitlab"


def _egress(value: Any) -> Any:
    if value == GITLAB or isinstance(value, Destination):
        return value
    if isinstance(value, str):
        host, port = split_address(value) if re.fullmatch(r"\S+:\d{1,5}", value) else ("", 0)
        if not host:
            raise ValueError("expected `gitlab` or host:port")
        return Destination(host, port)
    if isinstance(value, dict) and {"host", "port"} <= set(value) <= {"host", "port", "connect_to"}:
        return Destination(str(value["host"]), int(value["port"]), value.get("connect_to"))
    raise ValueError("expected `gitlab`, host:port, or a mapping of host, port and optionally connect_to")


class PoolSettings(WithSecrets):
    """One pool: a runner in GitLab and the machines that work for it."""

    name: str
    """Lower-case letters, digits and dashes, at most 40."""

    runner_token: SecretStr
    """The runner authentication token (`glrt-…`) of the runner made for this pool in GitLab."""

    image: str
    """Name or digest of an image in the store (`firerunner image list`)."""

    vcpu: int = Field(default=1, ge=1, le=64)
    """Virtual CPUs of each machine."""

    memory_mib: int = Field(default=1024, ge=128, le=1_048_576)
    """Memory of each machine in MiB."""

    disk_mib: int = Field(default=4096, ge=64, le=16_777_216)
    """Writable disk of each machine in MiB; sparse on the host."""

    limit: int = Field(default=10, ge=1, le=10_000)
    """At most so many machines of this pool at once."""

    warm: int = Field(default=0, ge=0, le=1000)
    """So many machines are kept booted and waiting without a job."""

    hosts: tuple[str, ...] = ()
    """Hosts that may run this pool's machines. Empty: all."""

    egress: tuple[Annotated[Destination | str, BeforeValidator(_egress)], ...] = (GITLAB,)
    """TCP destinations that guests may reach besides the gate: `gitlab`, or host:port."""

    projects: tuple[int, ...] = ()
    """GitLab project ids whose hooks wake this pool. Empty: all hooks do."""

    check_interval: Duration = Field(default=3.0, ge=0.5, le=300.0)
    """Seconds between asks while GitLab has nothing. gitlab-runner's own default is 3 s."""

    max_job_time: Duration = Field(default=3600.0, ge=60.0, le=604_800.0)
    """No job of this pool runs longer, whatever its timeout in GitLab says."""

    boot_timeout: Duration = Field(default=90.0, ge=5.0, le=1800.0)
    """A machine whose guest has not called the gate after so long is given up."""

    config_environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables for every job of the pool (`environment` in the runner's config.toml)."""

    @field_validator("name")
    @classmethod
    def _is_plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("expected lower-case letters, digits and dashes, at most 40 characters")
        return value

    @property
    def resources(self) -> Resources:
        """The room one machine of this pool takes."""
        return Resources(self.vcpu, self.memory_mib, self.disk_mib)

    def destinations(self, gitlab: Destination) -> tuple[Destination, ...]:
        """The egress list with the word `gitlab` replaced by the real destination."""
        return tuple(gitlab if isinstance(item, str) else item for item in self.egress)
