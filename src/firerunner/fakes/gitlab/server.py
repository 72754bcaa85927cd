"""The handle: a whole fake GitLab that a test, the demo or the bench holds in its hand."""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from firerunner.fakes.gitlab import lfs_api, repository, scheduler
from firerunner.fakes.gitlab.app import build_app
from firerunner.fakes.gitlab.calls import Call, CallBook
from firerunner.fakes.gitlab.clock import Clock
from firerunner.fakes.gitlab.control_api import ControlApi
from firerunner.fakes.gitlab.listener import Certificate, Listener
from firerunner.fakes.gitlab.misbehave import Misbehaviour, Rule
from firerunner.fakes.gitlab.model import Group, Hook, Job, Manager, Pipeline, Project, Runner
from firerunner.fakes.gitlab.pipelines import start_pipeline
from firerunner.fakes.gitlab.repository import Submodule
from firerunner.fakes.gitlab.settings import Behaviour
from firerunner.fakes.gitlab.webhooks import WebHooks, signing_key
from firerunner.fakes.gitlab.world import World

WAIT_S = 60.0

Found = TypeVar("Found")


class FakeGitLab:
    """`async with FakeGitLab(tmp_path) as gitlab:` listens on loopback until the block ends.

    `url` is where it listens; `external_url` is what it calls itself in every URL that it gives out, whatever
    the `Host` of a request; with a path in it the instance is there and nowhere else. With a `certificate` it
    speaks TLS. Everything but repositories and artifacts is in memory;
    those of an earlier run in the same folder are removed.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        clock: Clock = time.time,
        host: str = "127.0.0.1",
        port: int = 0,
        external_url: str | None = None,
        behaviour: Behaviour | None = None,
        control: bool = False,
        certificate: Certificate | None = None,
    ) -> None:
        self.world = World(data_dir, clock, behaviour or Behaviour())
        self.hooks = WebHooks(self.world)
        self.api_token = self.world.new_api_token()
        self._host, self._port, self._external_url = host, port, external_url
        self._certificate = certificate
        routes = ControlApi(self).routes() if control else []
        self._misbehaviour = Misbehaviour(build_app(self.world, routes))
        self._book = CallBook(self._misbehaviour, clock, self.world.changes)
        self._listener: Listener | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        for leftover in ("repositories", "artifacts", "lfs"):
            await asyncio.to_thread(shutil.rmtree, self.world.data_dir / leftover, ignore_errors=True)
        self._listener = Listener(self._book, self._host, self._port, self._certificate)
        scheme = "https" if self._certificate else "http"
        here = f"[{self._host}]" if ":" in self._host else self._host
        own = f"{scheme}://{here}:{self._listener.port}"
        external = (self._external_url or own).rstrip("/").replace(":PORT", f":{self._listener.port}")
        self.world.external_url = external
        self.url = own + urlsplit(external).path
        await self._listener.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.world.closing = True
        self.world.changes.ring()
        for rule in self._misbehaviour.rules:
            rule.release()
        await self.hooks.aclose()
        if self._listener:
            await self._listener.stop()

    @property
    def external_url(self) -> str:
        """What it calls itself."""
        return self.world.external_url

    @property
    def behaviour(self) -> Behaviour:
        """Knobs that may be turned at any time."""
        return self.world.behaviour

    # What there is

    async def add_project(
        self,
        path: str,
        files: Mapping[str, str | bytes | Submodule] | Path,
        *,
        branch: str = "main",
        private: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> Project:
        """A project with one commit that holds these files, or those of a folder."""
        project_id = self.world.new_id("project", 11)
        folder = self.world.data_dir / "repositories" / f"{project_id}.git"
        await repository.create(folder, branch)
        await repository.commit(folder, branch, files, "Add the sample project")
        project = Project(
            project_id,
            path,
            folder,
            self.world.clock(),
            default_branch=branch,
            private=private,
            variables=dict(variables or {}),
        )
        self.world.projects[project.id] = project
        self.world.add_groups(project.namespace)
        return project

    async def commit(
        self,
        project: Project,
        files: Mapping[str, str | bytes | Submodule] | Path,
        *,
        branch: str | None = None,
        message: str = "Change the files",
    ) -> str:
        """Replace a branch's whole content; returns the commit's SHA."""
        return await repository.commit(project.repository, branch or project.default_branch, files, message)

    def add_runner(
        self,
        tags: list[str] | tuple[str, ...] = (),
        *,
        run_untagged: bool = True,
        project: Project | None = None,
        **settings: Any,
    ) -> str:
        """A runner; returns its token. `settings` are the other parameters of `World.new_runner`."""
        runner = self.world.new_runner(
            tags=frozenset(tags),
            run_untagged=run_untagged,
            project_id=project.id if project else None,
            runner_type="project_type" if project else "instance_type",
            **settings,
        )
        return runner.token

    def runner(self, token: str) -> Runner:
        """The runner with that token. Raises `LookupError`."""
        found = self.world.runner_by_token(token)
        if found is None:
            raise LookupError("no runner has that token")
        return found

    def delete_runner(self, token: str) -> None:
        """From now on its token is answered 403."""
        self.world.forget_runner(self.runner(token))

    def managers(self, token: str | None = None) -> list[Manager]:
        """The live manager records, of one runner or of all; `world.managers_made` counts those ever made."""
        return list(self.runner(token).managers.values()) if token else self.world.managers()

    def add_hook(
        self,
        owner: Project | Group,
        url: str,
        token: str | None = None,
        signing_token: str | None = None,
        *,
        job_events: bool = True,
        pipeline_events: bool = False,
    ) -> Hook:
        """A webhook. `signing_token` is `whsec_` and the base64 of 32 bytes."""
        hook = Hook(
            self.world.new_id("hook", 501),
            owner,
            url,
            self.world.clock(),
            token,
            signing_key(signing_token) if signing_token else None,
            job_events,
            pipeline_events,
        )
        self.world.hooks[hook.id] = hook
        return hook

    def allow_job_tokens(self, project: Project, of: Project) -> None:
        """Let jobs of another project fetch this one, as on the job token allowlist."""
        project.job_token_allowlist.add(of.id)

    def add_lfs_object(self, content: bytes) -> str:
        """Keep an object of Git LFS; returns the pointer, which is what is committed in its place."""
        return lfs_api.keep(self.world, content)

    # What happens

    async def run_pipeline(
        self, project: Project, ref: str | None = None, variables: Mapping[str, str] | None = None
    ) -> Pipeline:
        """Start a pipeline as `POST /projects/:id/pipeline` does."""
        return await start_pipeline(self.world, project, ref or project.default_branch, dict(variables or {}))

    def job(self, key: int | str, pipeline: Pipeline | None = None) -> Job:
        """A job by id, or the newest of that name (of that pipeline). Raises `LookupError`."""
        jobs = [
            job
            for job in self.world.jobs.values()
            if pipeline in (None, job.pipeline) and key in (job.id, job.name)
        ]
        if not jobs:
            raise LookupError(f"no job {key!r}")
        return max(jobs, key=lambda job: job.id)

    def jobs(self, pipeline: Pipeline | None = None) -> list[Job]:
        """All jobs, oldest first."""
        return [job for job in self.world.jobs.values() if pipeline in (None, job.pipeline)]

    def cancel(self, job: Job, *, force: bool = False) -> bool:
        """Cancel as a user does; False if there was nothing to cancel."""
        return scheduler.cancel(self.world, job, force=force)

    def retry(self, job: Job) -> Job:
        """Retry a finished job as a user does; a new job."""
        return scheduler.retry(self.world, job)

    def trace(self, job: Job) -> str:
        """The log so far."""
        return job.trace.decode(errors="replace")

    def artifact(self, job: Job, artifact_type: str = "archive") -> bytes:
        """An uploaded file. Raises `KeyError`."""
        return job.artifacts[artifact_type].path.read_bytes()

    def calls(self, method: str = "", path: str = ".*") -> list[Call]:
        """The calls it was sent, oldest first, by method and by a regular expression for the whole path."""
        return [
            call for call in self._book.calls if method in ("", call.method) and re.fullmatch(path, call.path)
        ]

    async def wait_for(self, look: Callable[[], Found], timeout_s: float = WAIT_S) -> Found:
        """Return the first true value of `look`, which is asked at each change. Raises `TimeoutError`."""
        try:
            return await self.world.changes.until(look, timeout_s)
        except TimeoutError:
            raise TimeoutError(f"waited {timeout_s} s in vain; jobs: {self._summary()}") from None

    async def wait_for_job(self, job: Job, *statuses: str, timeout_s: float = WAIT_S) -> Job:
        """Return when the job has one of these statuses; without any, when it has ended."""
        await self.wait_for(lambda: job.status.value in statuses if statuses else job.finished, timeout_s)
        return job

    def drop_stuck_jobs(self) -> list[Job]:
        """Run GitLab's stuck-job workers now."""
        return scheduler.drop_stuck(self.world)

    # What goes wrong

    def drop_hooks_for(self, job_name: str) -> None:
        """Lose every webhook about jobs of that name."""
        self.hooks.drop_for(job_name)

    def misbehave(self, path: str | Rule, **how: Any) -> Rule:
        """Add a rule; `path` is a regular expression for the whole path, `how` the fields of `Rule`."""
        rule = path if isinstance(path, Rule) else Rule(path, **how)
        self._misbehaviour.rules.append(rule)
        return rule

    def behave(self) -> None:
        """Drop all rules, and let go of what they hold."""
        for rule in self._misbehaviour.rules:
            rule.release()
        self._misbehaviour.rules.clear()

    def _summary(self) -> str:
        return (
            ", ".join(f"{job.name}#{job.id} {job.status.value}" for job in self.world.jobs.values()) or "none"
        )
