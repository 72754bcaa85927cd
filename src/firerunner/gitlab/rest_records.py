"""What GitLab's REST API tells about runners, hooks, jobs and tokens, as far as we act on it.

Sources: Rails lib/api/entities/ci/runner_details.rb, lib/api/entities/hook.rb and project_hook.rb,
lib/api/entities/ci/job.rb; docs pages "Runners API", "Project webhooks", "Jobs API".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

ScopeKind = Literal["project", "group", "instance"]

HOOK_EVENTS = ("job_events", "pipeline_events")
"""The events that a hook of ours sends."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose runner or hook it is."""

    kind: ScopeKind
    id: int | None = None
    """None for the instance."""
    path: str = ""

    @property
    def runner_type(self) -> str:
        """GitLab's word for a runner of this scope."""
        return f"{self.kind}_type"

    @property
    def api_path(self) -> str:
        """Where the scope's own things are in the API."""
        return "" if self.kind == "instance" else f"/{self.kind}s/{self.id}"

    def __str__(self) -> str:
        return "the instance" if self.kind == "instance" else f"{self.kind} {self.path or self.id}"


@dataclass(frozen=True, slots=True)
class NewRunner:
    """A runner to be made."""

    scope: Scope
    description: str
    tags: tuple[str, ...]
    run_untagged: bool
    locked: bool
    access_level: str = "not_protected"
    maximum_timeout_s: int | None = None
    maintenance_note: str = ""

    def parameters(self) -> dict[str, Any]:
        """As `POST /user/runners` takes it (Rails lib/api/user_runners.rb)."""
        given: dict[str, Any] = {
            "runner_type": self.scope.runner_type,
            "description": self.description,
            "tag_list": list(self.tags),
            "run_untagged": self.run_untagged,
            "locked": self.locked,
            "access_level": self.access_level,
            "maintenance_note": self.maintenance_note,
        }
        if self.scope.id is not None:
            given[f"{self.scope.kind}_id"] = self.scope.id
        if self.maximum_timeout_s is not None:
            given["maximum_timeout"] = self.maximum_timeout_s
        return given


@dataclass(frozen=True, slots=True)
class RunnerRecord:
    """A runner as `GET /runners/:id` shows it."""

    id: int
    description: str
    runner_type: str
    paused: bool
    locked: bool
    run_untagged: bool
    tags: tuple[str, ...]
    access_level: str
    maximum_timeout_s: int | None
    maintenance_note: str
    projects: tuple[int, ...]
    groups: tuple[int, ...]


def read_runner(said: dict[str, Any]) -> RunnerRecord:
    """Raises KeyError, TypeError or ValueError for what is no runner."""
    return RunnerRecord(
        id=int(said["id"]),
        description=str(said.get("description") or ""),
        runner_type=str(said["runner_type"]),
        paused=bool(said.get("paused", False)),
        locked=bool(said.get("locked", False)),
        run_untagged=bool(said.get("run_untagged", True)),
        tags=tuple(sorted(str(tag) for tag in said.get("tag_list") or ())),
        access_level=str(said.get("access_level") or "not_protected"),
        maximum_timeout_s=_whole(said.get("maximum_timeout")),
        maintenance_note=str(said.get("maintenance_note") or ""),
        projects=tuple(int(project["id"]) for project in said.get("projects") or ()),
        groups=tuple(int(group["id"]) for group in said.get("groups") or ()),
    )


@dataclass(frozen=True, slots=True)
class RunnerSummary:
    """A runner as lists show it."""

    id: int
    description: str
    runner_type: str


def read_summary(said: dict[str, Any]) -> RunnerSummary:
    """Raises KeyError, TypeError or ValueError for what is no runner."""
    return RunnerSummary(int(said["id"]), str(said.get("description") or ""), str(said["runner_type"]))


@dataclass(frozen=True, slots=True)
class HookRecord:
    """A webhook of a project or a group."""

    id: int
    url: str
    events: frozenset[str]
    """Names of all events that it sends, as in `job_events`."""
    ssl_verification: bool
    alert_status: str
    """`executable`, `temporarily_disabled` or `disabled`; empty where GitLab does not tell."""
    disabled_until: str | None
    token_present: bool | None
    """None where GitLab does not tell."""
    signing_token_present: bool | None
    """None where GitLab does not know signing tokens."""
    custom_template: bool


def read_hook_record(said: dict[str, Any]) -> HookRecord:
    """Raises KeyError, TypeError or ValueError for what is no hook."""
    return HookRecord(
        id=int(said["id"]),
        url=str(said["url"]),
        events=frozenset(name for name, on in said.items() if name.endswith("_events") and on is True),
        ssl_verification=bool(said.get("enable_ssl_verification", True)),
        alert_status=str(said.get("alert_status") or ""),
        disabled_until=said.get("disabled_until"),
        token_present=said.get("token_present"),
        signing_token_present=said.get("signing_token_present"),
        custom_template=bool(said.get("custom_webhook_template")),
    )


@dataclass(frozen=True, slots=True)
class PendingJob:
    """A job that waits for a runner."""

    id: int
    name: str
    project_id: int
    tags: tuple[str, ...]
    taken: bool
    """True if a runner has it already, although it is still pending."""


def read_pending_job(said: dict[str, Any], project_id: int) -> PendingJob:
    """Raises KeyError, TypeError or ValueError for what is no job."""
    return PendingJob(
        id=int(said["id"]),
        name=str(said.get("name") or ""),
        project_id=project_id,
        tags=tuple(sorted(str(tag) for tag in said.get("tag_list") or ())),
        taken=said.get("runner") is not None,
    )


@dataclass(frozen=True, slots=True)
class RunnersJob:
    """A job that a runner was given."""

    id: int
    project_id: int
    status: str


def read_runners_job(said: dict[str, Any]) -> RunnersJob:
    """Raises KeyError, TypeError or ValueError for what is none."""
    return RunnersJob(int(said["id"]), int(said["project"]["id"]), str(said["status"]))


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a personal, group or project access token may do."""

    name: str
    scopes: frozenset[str]
    expires_at: str | None


def read_token(said: dict[str, Any]) -> TokenFacts:
    """Raises TypeError for what is no token."""
    return TokenFacts(
        str(said.get("name") or ""), frozenset(said.get("scopes") or ()), said.get("expires_at")
    )


def _whole(value: Any) -> int | None:
    return int(value) if value else None
