"""Settings: the pools, each one GitLab runner with its size, image, limits and egress."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from firerunner.machines.spec import Destination, Egress, Resources
from firerunner.settings.egress import GITLAB, EgressItem
from firerunner.settings.holding import HoldSettings
from firerunner.settings.hosts import Labels
from firerunner.settings.proxy import ProxySettings
from firerunner.settings.runner_config import EXECUTORS, parse_fragment
from firerunner.settings.secrets import ReadableFile, WithSecrets
from firerunner.settings.sized import SizedSettings
from firerunner.settings.values import Duration
from firerunner.settings.warm import WarmSettings, as_section

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_DAEMON_OURS = frozenset({"hosts", "data-root", "exec-root", "pidfile", "host", "tls", "tlsverify"})

_OTHER_TOKENS = ("glpat-", "GR1348941")
"""Of a user, and of the registration that GitLab 16 did away with. Runners' tokens may have a prefix of the
instance's own, so what they begin with is not checked."""


class PoolSettings(WithSecrets):
    """One pool: a runner in GitLab and the machines that work for it."""

    name: str
    """Lower-case letters, digits and dashes, at most 40."""

    gitlab: str = ""
    """Which GitLab, by its name. Empty: the only one."""

    runner_token: SecretStr | None = None
    """The runner authentication token (`glrt-…`) of the runner made for this pool in GitLab. A template
    for sized tags has none."""

    sized: SizedSettings | None = None
    """Makes the pool a template for sized tags, `firecracker-{N}cpu-{M}gb`. None: an ordinary pool."""

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

    warm: Annotated[WarmSettings, BeforeValidator(as_section)] = WarmSettings()
    """Machines that are kept booted and waiting without a job: a number, or how it is found."""

    start: Literal["restored", "cold"] = "restored"
    """How machines start: from a saved state of the image, where the host's driver can and has a good one;
    or by a boot, always."""

    hosts: tuple[str, ...] = ()
    """Hosts that may run this pool's machines. Empty: all."""

    host_labels: Labels = Field(default_factory=dict)
    """Only hosts with all of these labels run this pool's machines, such as `zone: a`. Empty: all."""

    placement: Literal["spread", "pack"] = "spread"
    """On the emptiest host, so that few jobs die with one; or on the fullest that has room, so that hosts
    become empty."""

    egress: tuple[EgressItem, ...] = (GITLAB,)
    """What guests may reach besides the gate: `gitlab`, host:port, `*.domain`, an IPv4 network in CIDR
    form, or `internet`; the last three with `:port`, or without for all TCP ports."""

    proxy: ProxySettings = ProxySettings()
    """The HTTP proxy of the guests: set for the runner and for jobs (`http_proxy`, `https_proxy`,
    `no_proxy`), and allowed as a destination."""

    ca_file: ReadableFile | None = None
    """PEM bundle that guests trust besides their own and GitLab's, for example for a registry."""

    projects: tuple[int, ...] = ()
    """GitLab project ids whose hooks wake this pool. Empty: all hooks do."""

    lost_jobs: Literal["retry", "cancel"] = "retry"
    """What becomes of a job whose hand-over from GitLab was lost, by a crash or a broken connection: it has
    not run. With the gitlab's `api_token` it is found and cancelled, and run again or not."""

    check_interval: Duration = Field(default=3.0, ge=0.5, le=300.0)
    """Seconds between asks while GitLab has nothing. gitlab-runner's own default is 3 s."""

    max_job_time: Duration = Field(default=3600.0, ge=60.0, le=604_800.0)
    """No job of this pool runs longer, whatever its timeout in GitLab says."""

    boot_timeout: Duration = Field(default=90.0, ge=5.0, le=1800.0)
    """A machine whose guest has not called the gate after so long is given up."""

    runner_config: SecretStr | None = None
    """A fragment of gitlab-runner's `config.toml`: the keys of `[[runners]]`, as TOML text. It reaches
    every job of the pool; so do the credentials in it."""

    hold: HoldSettings | None = None
    """Machines of failed jobs are kept for a look, with everything that the job left there, its secrets too.
    None: every machine goes when its job has ended."""

    docker_daemon: dict[str, Any] = Field(default_factory=dict)
    """Keys of Docker's `daemon.json` for the Docker engine in the guests, such as `registry-mirrors`."""

    @field_validator("name")
    @classmethod
    def _is_plain_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("expected lower-case letters, digits and dashes, at most 40 characters")
        return value

    @field_validator("runner_token")
    @classmethod
    def _is_a_runner_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
            raise ValueError(
                "expected a runner authentication token (`glrt-…`), in one word: no space, no second line"
            )
        if value.get_secret_value().startswith(_OTHER_TOKENS):
            raise ValueError(
                "expected a runner authentication token (`glrt-…`), and this is another kind of token; "
                "`firerunner gitlab setup` makes the runner"
            )
        return value

    @field_validator("runner_config")
    @classmethod
    def _is_a_fragment(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_fragment(value.get_secret_value())
        return value

    @field_validator("docker_daemon")
    @classmethod
    def _leaves_ours_alone(cls, value: dict[str, Any]) -> dict[str, Any]:
        ours = sorted(_DAEMON_OURS & set(value))
        if ours:
            raise ValueError(f"`{ours[0]}` is set by the image and cannot be given; take it out")
        return value

    @model_validator(mode="after")
    def _has_one_runner(self) -> PoolSettings:
        if self.runner_token is None and self.sized is None:
            raise ValueError("runner_token is missing (or runner_token_file, or `sized` for a template)")
        if self.runner_token is not None and self.sized is not None:
            raise ValueError("runner_token and sized are both given; a template's runners are made by sight")
        return self

    @property
    def token(self) -> str:
        """The runner token in clear. Raises ValueError for a template, which has none."""
        if self.runner_token is None:
            raise ValueError(f"pool {self.name} is a template")
        return self.runner_token.get_secret_value()

    @property
    def resources(self) -> Resources:
        """The room one machine of this pool takes."""
        return Resources(self.vcpu, self.memory_mib, self.disk_mib)

    @property
    def runner_options(self) -> Mapping[str, Any]:
        """The keys that the pool adds to the runner's `[[runners]]`."""
        return parse_fragment(self.runner_config.get_secret_value()) if self.runner_config else {}

    @property
    def executor(self) -> str:
        """What runs the jobs in the guest: `shell`, or `docker`."""
        return str(self.runner_options.get("executor", EXECUTORS[0]))

    def outside(self, gitlab: Destination) -> tuple[Egress, ...]:
        """The egress list with the word `gitlab` replaced by the real destination, and the proxy."""
        allowed = [gitlab if isinstance(item, str) else item for item in self.egress]
        named = {(item.host, item.port) for item in allowed if isinstance(item, Destination)}
        proxy = self.proxy.destination
        if proxy is not None and (proxy.host, proxy.port) not in named:
            allowed.append(proxy)
        return tuple(allowed)
