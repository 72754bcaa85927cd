"""The records that the fake GitLab keeps in memory: projects, runners, pipelines, jobs, hooks."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from firerunner.fakes.gitlab.ci_yaml import JobSpec


class JobStatus(StrEnum):
    """GitLab's own words (the subset that a pipeline of ordinary jobs goes through)."""

    CREATED = "created"  # waits for an earlier stage
    PENDING = "pending"  # waits for a runner
    RUNNING = "running"  # handed to a runner; from the 201 on
    CANCELING = "canceling"  # cancel asked, the runner may still run after_script
    SUCCESS = "success"
    FAILED = "failed"
    CANCELED = "canceled"
    SKIPPED = "skipped"  # an earlier stage failed


FINISHED = frozenset({JobStatus.SUCCESS, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.SKIPPED})
"""Statuses that a job does not leave; a retry makes a new job."""

ON_RUNNER = frozenset({JobStatus.RUNNING, JobStatus.CANCELING})
"""Statuses in which the runner's calls are accepted (Rails `processing_on_runner?`)."""


@dataclass(slots=True)
class Artifact:
    """One uploaded file of a job."""

    artifact_type: str
    artifact_format: str
    filename: str
    path: Path
    size: int
    expire_in: str | None


@dataclass(slots=True)
class Manager:
    """One system id that has authenticated with a runner's token."""

    id: int
    runner_id: int
    system_id: str
    created_at: float
    contacted_at: float
    version: str = ""
    revision: str = ""
    platform: str = ""
    architecture: str = ""
    executor: str = ""
    ip_address: str = ""


@dataclass(slots=True)
class Runner:
    """A runner record: what its token may take."""

    id: int
    token: str
    description: str
    tags: frozenset[str]
    run_untagged: bool
    runner_type: str
    created_at: float
    project_id: int | None = None
    paused: bool = False
    group: Group | None = None
    locked: bool = False
    protected_only: bool = False
    maximum_timeout_s: int | None = None
    maintenance_note: str = ""
    contacted_at: float | None = None
    managers: dict[str, Manager] = field(default_factory=dict)
    managers_made: int = 0
    queue_value: str = field(default_factory=lambda: secrets.token_hex(16))

    def tick(self) -> None:
        """Change the value sent as `X-GitLab-Last-Update`, so that a cached "nothing" is not believed."""
        self.queue_value = secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Group:
    """A group or subgroup: whatever stands before a project's name in its path."""

    id: int
    path: str

    def owns(self, project: Project) -> bool:
        """Whether the project lies in it or in a subgroup of it."""
        return project.path.startswith(f"{self.path}/")


@dataclass(slots=True)
class Hook:
    """A webhook of a project or of a group."""

    id: int
    owner: Project | Group
    url: str
    created_at: float
    token: str | None = None
    signing_key: bytes | None = None
    job_events: bool = True
    pipeline_events: bool = False
    failures: int = 0
    disabled_until: float = 0.0

    def hears(self, project: Project) -> bool:
        """Whether it is told of this project's events."""
        return self.owner is project if isinstance(self.owner, Project) else self.owner.owns(project)


@dataclass(slots=True)
class Project:
    """A project with its bare repository."""

    id: int
    path: str
    repository: Path
    created_at: float
    default_branch: str = "main"
    private: bool = True
    timeout_s: int = 3600
    git_depth: int = 20
    protected_refs: set[str] = field(default_factory=lambda: {"main"})
    variables: dict[str, str] = field(default_factory=dict)
    job_token_allowlist: set[int] = field(default_factory=set)
    """Projects whose jobs may fetch this one."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def namespace(self) -> str:
        """All but the last part of the path."""
        return self.path.rsplit("/", 1)[0]


@dataclass(slots=True)
class Pipeline:
    """One run of a `.gitlab-ci.yml` at a commit. Its status is computed from its jobs."""

    id: int
    iid: int
    project: Project
    ref: str
    tag: bool
    sha: str
    before_sha: str
    message: str
    source: str
    variables: dict[str, str]
    file_variables: dict[str, str]
    stages: list[str]
    created_at: float
    status: str = "created"
    finished_at: float | None = None
    jobs: list[Job] = field(default_factory=list)

    def latest(self) -> list[Job]:
        """The jobs that have not been retried."""
        return [job for job in self.jobs if not job.retried]


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of a job's timeline."""

    status: str
    at: float


@dataclass(slots=True)
class Job:
    """One job, with everything a test may want to know about how it went."""

    id: int
    spec: JobSpec
    pipeline: Pipeline
    stage_index: int
    created_at: float
    token: str
    status: JobStatus = JobStatus.CREATED
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    updated_at: float = 0.0
    failure_reason: str | None = None
    exit_code: int | None = None
    timeout_s: int = 3600
    runner: Runner | None = None
    manager: Manager | None = None
    cancel_gracefully: bool = False
    retried: bool = False
    handed_out: int = 0
    first_trace_at: float | None = None
    final_updates: int = 0
    final_since: float | None = None
    trace: bytearray = field(default_factory=bytearray)
    trace_checksum_ok: bool | None = None
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    timeline: list[Mark] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The job's name, with ` 1/3` where it is parallel."""
        return self.spec.name

    @property
    def project(self) -> Project:
        """The project it belongs to."""
        return self.pipeline.project

    @property
    def finished(self) -> bool:
        """Whether it has ended for good."""
        return self.status in FINISHED

    @property
    def tolerated(self) -> bool:
        """Whether a failure of it lets the pipeline go on (`allow_failure`, also by exit code)."""
        return self.spec.allow_failure or self.exit_code in self.spec.allowed_exit_codes

    def at(self, status: str) -> float | None:
        """When it first had that status."""
        return next((mark.at for mark in self.timeline if mark.status == status), None)

    @property
    def pending_to_running_s(self) -> float | None:
        """Seconds from `pending` to `running`."""
        return _between(self.at("pending"), self.at("running"))

    @property
    def running_to_first_output_s(self) -> float | None:
        """Seconds from `running` to the first byte of trace."""
        return _between(self.at("running"), self.first_trace_at)


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start
