"""All records of one fake GitLab, and how to find them."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firerunner.fakes.gitlab.changes import Changes
from firerunner.fakes.gitlab.clock import Clock
from firerunner.fakes.gitlab.model import ON_RUNNER, Group, Hook, Job, Manager, Pipeline, Project, Runner
from firerunner.fakes.gitlab.settings import Behaviour

JobListener = Callable[[Job], None]

HookTest = Callable[[Hook, str, Job], Awaitable[str | None]]
"""Sends a test of that trigger's event about a job; says what went wrong."""

ALL_SCOPES = frozenset({"api"})


@dataclass(frozen=True, slots=True)
class Ask:
    """One authenticated `POST /jobs/request`, as it came in, and the job it got."""

    runner_id: int
    system_id: str
    last_update: str | None
    info: dict[str, Any]
    at: float
    job_id: int | None


@dataclass(slots=True)
class World:
    """The database of the fake. Everything in it is touched from one event loop only, between awaits."""

    data_dir: Path
    clock: Clock
    behaviour: Behaviour
    external_url: str = ""
    changes: Changes = field(default_factory=Changes)
    projects: dict[int, Project] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)
    runners: dict[int, Runner] = field(default_factory=dict)
    pipelines: dict[int, Pipeline] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    hooks: dict[int, Hook] = field(default_factory=dict)
    api_tokens: dict[str, frozenset[str]] = field(default_factory=dict)
    administrators: set[str] = field(default_factory=set)
    """The API tokens of those who may do all; others are Owners of all groups and projects."""
    managers_made: int = 0
    redirected_uploads: int = 0
    redirected_downloads: int = 0
    asks: list[Ask] = field(default_factory=list)
    closing: bool = False
    job_listeners: list[JobListener] = field(default_factory=list)
    send_test: HookTest | None = None
    _ids: dict[str, Iterator[int]] = field(default_factory=dict)

    def new_id(self, kind: str, first: int = 1) -> int:
        """The next id of that kind of record. Ids of different kinds differ, so that mix-ups show."""
        return next(self._ids.setdefault(kind, itertools.count(first)))

    def new_api_token(self, scopes: frozenset[str] = ALL_SCOPES, *, administrator: bool = True) -> str:
        """A personal access token with those scopes."""
        token = f"glpat-{secrets.token_urlsafe(15)}"
        self.api_tokens[token] = scopes
        if administrator:
            self.administrators.add(token)
        return token

    def add_groups(self, path: str) -> None:
        """Make the groups of that path, from the outermost inwards, as far as they are not there."""
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            group_path = "/".join(parts[:end])
            if self.group(group_path) is None:
                group = Group(self.new_id("group", 801), group_path)
                self.groups[group.id] = group

    def new_runner_token(self) -> str:
        """A runner authentication token, of the kind that `POST /user/runners` gives."""
        return f"glrt-{secrets.token_urlsafe(15)}"

    def new_runner(
        self,
        *,
        tags: frozenset[str],
        run_untagged: bool,
        runner_type: str = "instance_type",
        project_id: int | None = None,
        group: Group | None = None,
        description: str = "",
        paused: bool = False,
        locked: bool = False,
        protected_only: bool = False,
        maximum_timeout_s: int | None = None,
        maintenance_note: str = "",
    ) -> Runner:
        """A runner with a token of its own."""
        runner = Runner(
            id=self.new_id("runner", 201),
            token=self.new_runner_token(),
            description=description,
            tags=tags,
            run_untagged=run_untagged,
            runner_type=runner_type,
            created_at=self.clock(),
            project_id=project_id,
            group=group,
            paused=paused,
            locked=locked,
            protected_only=protected_only,
            maximum_timeout_s=maximum_timeout_s,
            maintenance_note=maintenance_note,
        )
        self.runners[runner.id] = runner
        return runner

    def forget_runner(self, runner: Runner) -> None:
        """Delete a runner and its managers. Its jobs go on; its token is worth nothing from now on."""
        self.runners.pop(runner.id, None)
        self.changes.ring()

    def project(self, key: int | str) -> Project | None:
        """By id, by id as text, or by full path."""
        if isinstance(key, int) or key.isdigit():
            return self.projects.get(int(key))
        return next((project for project in self.projects.values() if project.path == key), None)

    def group(self, key: int | str) -> Group | None:
        """By id, by id as text, or by full path."""
        if isinstance(key, int) or key.isdigit():
            return self.groups.get(int(key))
        return next((group for group in self.groups.values() if group.path == key), None)

    def runner_by_token(self, token: object) -> Runner | None:
        """The live runner with that authentication token."""
        return next((runner for runner in self.runners.values() if runner.token == token), None)

    def running_job_by_token(self, token: str) -> Job | None:
        """The job with that token, if it is on a runner: a job token is worth nothing afterwards."""
        found = (job for job in self.jobs.values() if job.status in ON_RUNNER and job.token == token)
        return next(found, None)

    def manager_of(self, runner: Runner, system_id: str, ip_address: str) -> Manager:
        """The manager record of that system id; made if it is new (Rails `ensure_manager`)."""
        now = self.clock()
        manager = runner.managers.get(system_id)
        if manager is None:
            manager = Manager(self.new_id("manager", 301), runner.id, system_id, now, now)
            runner.managers[system_id] = manager
            runner.managers_made += 1
            self.managers_made += 1
            self.changes.ring()
        manager.contacted_at = runner.contacted_at = now
        manager.ip_address = ip_address
        return manager

    def managers(self) -> list[Manager]:
        """All live manager records."""
        return [manager for runner in self.runners.values() for manager in runner.managers.values()]
