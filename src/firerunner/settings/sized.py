"""Settings: sized tags, by which a job names the size of its machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from firerunner.settings.values import Duration, Section, Words

PREFIXES = ("firecracker", "microvm", "firerunner")


class SizedSettings(Section):
    """A template: runners for sized tags are made in GitLab when a job asks for one.

    Needs the GitLab's `api_token`. The pool's own `vcpu` and `memory_mib` do not count.
    """

    prefixes: Words = PREFIXES
    """First words of the tags that count: `firecracker` for `firecracker-4cpu-8gb`."""

    max_vcpu: int = Field(default=8, ge=1, le=64)
    """No machine gets more virtual CPUs."""

    max_memory_mib: int = Field(default=16_384, ge=1024, le=1_048_576)
    """No machine gets more memory, in MiB. A tag's `gb` counts 1024 MiB."""

    max_sizes: int = Field(default=10, ge=1, le=100)
    """At most so many sizes (runners in GitLab) at once."""

    runner_type: Literal["project", "group", "instance"] = "project"
    """Where runners are made: in the project of the job that was seen, in `group_id`, or for the whole
    instance (needs an administrator's token)."""

    group_id: int | None = Field(default=None, ge=1)
    """The group, for `runner_type: group`."""

    unused: Duration = Field(default=7 * 86_400.0, ge=60.0)
    """A runner that got no job for so long is removed from GitLab."""

    look_every: Duration = Field(default=60.0, ge=5.0)
    """Seconds between two looks at the pending jobs of `projects`, should a hook be lost."""

    projects: tuple[int, ...] = ()
    """Projects that are looked at every `look_every`. Empty: only those of hooks that come in."""

    @model_validator(mode="after")
    def _group_is_named(self) -> SizedSettings:
        if (self.runner_type == "group") != (self.group_id is not None):
            raise ValueError("group_id goes with `runner_type: group`, and only with it")
        if not self.prefixes:
            raise ValueError("prefixes must not be empty")
        return self
