"""Given: a configuration whose secrets are still to be written, and the fake GitLab."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from firerunner.fakes.gitlab import FakeGitLab, Project
from firerunner.gitlab import RestClient, Scope
from firerunner.settings import Settings, load_settings
from firerunner.setup.acting import Outcome, carry_out
from firerunner.setup.deciding import Action, Step
from firerunner.setup.looking import make_plan
from firerunner.setup.reaching import rest_client
from firerunner.setup.wishes import Options, chosen_gitlab, hook_wish, runner_wishes

HOOK_URL = "https://firerunner.example.com/webhook"
PATIENCE_S = 60
AS_IT_IS = Options()


@dataclass
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str


@dataclass
class Stage:
    """What a test holds."""

    directory: Path
    gitlab: FakeGitLab
    project: Project
    pools: list[dict[str, Any]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    """Further keys of the GitLab's section."""
    top: dict[str, Any] = field(default_factory=dict)
    """Further sections."""

    @property
    def config(self) -> Path:
        return self.directory / "config.yaml"

    @property
    def scope(self) -> Scope:
        return Scope("project", self.project.id, self.project.path)

    def secret(self, name: str) -> Path:
        return self.directory / name

    def write(self) -> None:
        """The configuration."""
        gitlab = {"url": self.gitlab.url, "webhook_secret_file": "hook-secret", **self.more}
        state = str(self.directory / "state")
        sections = {"gitlab": gitlab, "pools": self.pools, "state_dir": state, **self.top}
        self.config.write_text(yaml.safe_dump(sections))

    def settings(self) -> Settings:
        self.write()
        return load_settings(self.config, missing_secrets="placeholder")

    async def plan(self, options: Options = AS_IT_IS, *, hooks: Sequence[Scope] = ()) -> list[Step]:
        """What set-up would do."""
        settings = self.settings()
        gitlab = chosen_gitlab(settings, None)
        async with rest_client(settings, gitlab, self.gitlab.api_token) as rest:
            return await self._plan(rest, settings, options, hooks)

    async def set_up(self, options: Options = AS_IT_IS, *, hooks: Sequence[Scope] = ()) -> Outcome:
        """Plan and do it."""
        settings = self.settings()
        gitlab = chosen_gitlab(settings, None)
        async with rest_client(settings, gitlab, self.gitlab.api_token) as rest:
            steps = await self._plan(rest, settings, options, hooks)
            assert Action.BLOCKED not in {step.action for step in steps}
            return await carry_out(rest, steps, hook_wish(gitlab, options))

    async def _plan(
        self, rest: RestClient, settings: Settings, options: Options, hooks: Sequence[Scope]
    ) -> list[Step]:
        gitlab = chosen_gitlab(settings, None)
        wishes = runner_wishes(settings, gitlab, options)
        return await make_plan(rest, self.scope, wishes, hook_wish(gitlab, options), hooks)

    async def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Ran:
        """The command, as a process of its own without a terminal."""
        self.write()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "firerunner", "gitlab", *arguments, "--config", str(self.config),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "TERM": "dumb", **(environment or {})},
        )  # fmt: skip
        try:
            async with asyncio.timeout(PATIENCE_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Ran(process.returncode or 0, out.decode(), err.decode())


def pool(name: str = "small", **more: Any) -> dict[str, Any]:
    return {"name": name, "runner_token_file": f"{name}.token", "image": "demo", **more}
