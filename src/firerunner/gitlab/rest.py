"""GitLab's REST API in a user's name, for what a runner token cannot do: runners, hooks, pending jobs.

Sources: docs pages "Runners API", "Project webhooks", "Group webhooks", "Jobs API", "Personal access
tokens API"; Rails lib/api/user_runners.rb, lib/api/hooks/trigger_test.rb.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from firerunner.errors import BadAnswer, CallRefused
from firerunner.gitlab.measured import Heard, unheard
from firerunner.gitlab.rest_calls import RestCalls
from firerunner.gitlab.rest_records import (
    HookRecord,
    NewRunner,
    PendingJob,
    RunnerRecord,
    RunnersJob,
    RunnerSummary,
    Scope,
    ScopeKind,
    TokenFacts,
    read_hook_record,
    read_pending_job,
    read_runner,
    read_runners_job,
    read_summary,
    read_token,
)

MAX_RUNNERS = 1000
MAX_HOOKS = 200
MAX_MANAGERS = 10_000
MAX_OF_ONE = 100
MAX_PENDING = 2000
"""Of the newest pending jobs of a project, so many are looked at."""

VERIFIER = "s_firerunner"
"""The system id under which runner tokens are verified, which makes a runner manager record. Always the same:
a crash leaves one of each runner at most, until the next time."""

T = TypeVar("T")


class RestClient:
    """One GitLab, one token. Every method raises GitLabError: see `RestCalls`."""

    def __init__(
        self,
        base_url: str,
        token: str,
        *,
        ca_file: Path | None = None,
        proxy: str | None = None,
        heard: Heard = unheard,
    ) -> None:
        """`heard` is told of each call, in a thread."""
        self._calls = RestCalls(base_url, token, ca_file=ca_file, proxy=proxy, heard=heard)
        self.base_url = self._calls.base_url

    async def aclose(self) -> None:
        """Close the connections."""
        await self._calls.aclose()

    async def version(self) -> str:
        """GitLab's version, for example `19.4.0-ee`."""
        said = await self._calls.get("/version")
        return str(said.get("version", ""))

    async def token(self) -> TokenFacts:
        """The token itself. `CallRefused` for one that is not of a kind that GitLab can show."""
        return self._read(
            "/personal_access_tokens/self", read_token, await self._calls.get("/personal_access_tokens/self")
        )

    async def scope(self, kind: ScopeKind, path: str | int) -> Scope:
        """The project or group of that full path or id."""
        if kind == "instance":
            return Scope("instance")
        where = f"/{kind}s/{quote(str(path), safe='')}"
        said = await self._calls.get(where)
        name = str(said.get("path_with_namespace") or said.get("full_path") or path)
        return self._read(where, lambda found: Scope(kind, int(found["id"]), name), said)

    # Runners

    async def create_runner(self, runner: NewRunner) -> tuple[int, str]:
        """Its id and token, shown this once. If the answer is lost, the runner may be there all the same."""
        said = await self._calls.post("/user/runners", **runner.parameters())
        return self._read("/user/runners", lambda made: (int(made["id"]), str(made["token"])), said)

    async def runner(self, runner_id: int) -> RunnerRecord | None:
        """None if it is not there."""
        where = f"/runners/{runner_id}"
        try:
            return self._read(where, read_runner, await self._calls.get(where))
        except CallRefused as error:
            if error.status == 404:
                return None
            raise

    async def runners(self, scope: Scope, *, tag: str | None = None) -> list[RunnerSummary]:
        """The runners that a scope owns itself; an instance's need an administrator's token."""
        where = "/runners/all" if scope.kind == "instance" else f"{scope.api_path}/runners"
        query: dict[str, Any] = {"type": scope.runner_type}
        if tag is not None:
            query["tag_list"] = tag
        found = await self._calls.list(where, at_most=MAX_RUNNERS, **query)
        return [self._read(where, read_summary, said) for said in found]

    async def update_runner(self, runner_id: int, changes: Mapping[str, Any]) -> RunnerRecord:
        """Change what is given, in the words of `PUT /runners/:id`."""
        where = f"/runners/{runner_id}"
        return self._read(where, read_runner, await self._calls.put(where, **changes))

    async def delete_runner(self, runner_id: int) -> bool:
        """True if it was there."""
        return await self._calls.delete(f"/runners/{runner_id}")

    async def delete_own_runner(self, runner_token: str) -> bool:
        """Delete a runner by its own token, which takes no scope; False if GitLab does not know the token."""
        try:
            return await self._calls.delete("/runners", token=runner_token)
        except CallRefused as error:
            if error.status == 403:
                return False
            raise

    async def reset_runner_token(self, runner_id: int) -> str:
        """A new token; the old one is worth nothing from now on."""
        where = f"/runners/{runner_id}/reset_authentication_token"
        return self._read(where, lambda said: str(said["token"]), await self._calls.post(where))

    async def manager_count(self, runner_id: int) -> int:
        """How many runner manager records the runner has, 10 000 at most."""
        return len(await self._calls.list(f"/runners/{runner_id}/managers", at_most=MAX_MANAGERS))

    async def runner_of(self, runner_token: str) -> int | None:
        """The id of the runner with this token; None if GitLab does not take it.

        Leaves no record behind, and takes away what a call that was broken off has left.
        """
        try:
            said = await self._calls.post("/runners/verify", token=runner_token, system_id=VERIFIER)
        except CallRefused as error:
            if error.status in {403, 422}:
                return None
            raise
        await self._calls.delete("/runners/managers", token=runner_token, system_id=VERIFIER)
        return self._read("/runners/verify", lambda found: int(found["id"]), said)

    # Hooks

    async def hooks(self, scope: Scope) -> list[HookRecord]:
        """The hooks of a project or group."""
        where = f"{scope.api_path}/hooks"
        found = await self._calls.list(where, at_most=MAX_HOOKS)
        return [self._read(where, read_hook_record, said) for said in found]

    async def create_hook(self, scope: Scope, settings: Mapping[str, Any]) -> HookRecord:
        """In the words of `POST /projects/:id/hooks`. GitLab ignores words that it does not know."""
        where = f"{scope.api_path}/hooks"
        return self._read(where, read_hook_record, await self._calls.post(where, **settings))

    async def update_hook(self, scope: Scope, hook_id: int, settings: Mapping[str, Any]) -> HookRecord:
        """As `create_hook`; an update has to name the `url`."""
        where = f"{scope.api_path}/hooks/{hook_id}"
        return self._read(where, read_hook_record, await self._calls.put(where, **settings))

    async def test_hook(self, scope: Scope, hook_id: int, trigger: str) -> None:
        """Have GitLab send a test and wait for it. `CallRefused` (422) with what the receiver or the network
        said if that was not 2xx."""
        await self._calls.post(f"{scope.api_path}/hooks/{hook_id}/test/{trigger}")

    # Jobs

    async def pending_jobs(self, project_id: int) -> list[PendingJob]:
        """The newest of a project's pending jobs, 2000 at most."""
        where = f"/projects/{project_id}/jobs"
        query = {"scope[]": "pending", "pagination": "keyset", "order_by": "id", "sort": "desc"}
        found = await self._calls.list(where, at_most=MAX_PENDING, tries=1, **query)
        return [self._read(where, lambda said: read_pending_job(said, project_id), said) for said in found]

    async def jobs_of(self, runner_id: int, system_id: str) -> list[RunnersJob]:
        """The jobs that a runner was given for this `system_id`, whatever has become of them."""
        where = f"/runners/{runner_id}/jobs"
        found = await self._calls.list(where, at_most=MAX_OF_ONE, system_id=system_id)
        return [self._read(where, read_runners_job, said) for said in found]

    async def cancel_job(self, project_id: int, job_id: int, *, force: bool = False) -> str:
        """The job's status afterwards. `force`: also one that is `canceling` already."""
        where = f"/projects/{project_id}/jobs/{job_id}/cancel"
        said = await self._calls.post(where, **({"force": True} if force else {}))
        return self._read(where, lambda found: str(found["status"]), said)

    async def retry_job(self, project_id: int, job_id: int) -> int:
        """The new job's id. `CallRefused` (403) if it cannot be retried."""
        where = f"/projects/{project_id}/jobs/{job_id}/retry"
        return self._read(where, lambda found: int(found["id"]), await self._calls.post(where))

    def _read(self, where: str, read: Callable[[dict[str, Any]], T], said: dict[str, Any]) -> T:
        try:
            return read(said)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BadAnswer(
                f"GitLab at {self.base_url} answers {where} with something else: {error!r}",
                remedy="check that no proxy answers in its place",
            ) from error
