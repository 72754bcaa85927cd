"""All checks of `firerunner gitlab check`, in order; one that fails for good spares the ones behind it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from firerunner.errors import CallRefused, FireRunnerError
from firerunner.findings import Finding, Level
from firerunner.gitlab import RestClient, RunnersClient, Scope, ScopeKind, new_http
from firerunner.settings import GitLabSettings, PoolSettings, Settings
from firerunner.setup.check_hooks import check_hooks, counter_of
from firerunner.setup.check_reach import check_reach, check_token
from firerunner.setup.check_runners import check_runner, check_runner_token
from firerunner.setup.reaching import rest_client


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator wants to know."""

    token: str | None = None
    """In place of the configuration's `api_token`."""
    hook_owners: tuple[tuple[ScopeKind, str], ...] = ()
    """Whose hooks; empty: those of the projects and groups that the runners are for."""
    webhook_url: str | None = None
    send_test: bool = False


async def check_gitlab(
    settings: Settings, gitlab: GitLabSettings, pools: Sequence[PoolSettings], request: Request
) -> list[Finding]:
    """One GitLab, and the given pools of it."""
    findings, reached = await check_reach(settings, gitlab)
    if not reached:
        return findings
    configured = gitlab.api_token.get_secret_value() if gitlab.api_token else None
    token = request.token or configured
    async with AsyncExitStack() as stack:
        proxy = settings.proxy.for_url(gitlab.url)
        http = await stack.enter_async_context(new_http(ca_file=gitlab.ca_file, proxy=proxy))
        rest = await stack.enter_async_context(rest_client(settings, gitlab, token)) if token else None
        subject = f"gitlab {gitlab.name}"
        templates = [pool for pool in settings.templates() if pool.gitlab == gitlab.name]
        if rest is not None:
            findings += await check_token(subject, rest, has_templates=bool(templates))
        else:
            what = "its version, runner settings and hooks are not looked at without an API token"
            findings.append(Finding(Level.SKIP, subject, what, "Give `api_token_file`, or --token-file"))
        listed = {project for pool in templates if pool.sized for project in pool.sized.projects}
        seen = {Scope("project", project_id) for project_id in listed}
        for pool in pools:
            found, scopes = await _pool(pool, RunnersClient(gitlab.url, http), rest)
            findings += found
            seen |= scopes
        if rest is not None:
            findings += await _hooks(settings, gitlab, rest, request, seen)
    return findings


async def _pool(
    pool: PoolSettings, runners: RunnersClient, rest: RestClient | None
) -> tuple[list[Finding], set[Scope]]:
    """The findings, and whose jobs the pool's runner takes, as far as that can be seen."""
    subject = f"pool {pool.name}"
    findings, runner_id = await check_runner_token(subject, runners, pool.token)
    scopes = {Scope("project", project_id) for project_id in pool.projects}
    if rest is not None and runner_id is not None:
        found, owners = await check_runner(subject, rest, runner_id, pool)
        findings += found
        scopes |= owners
    return findings, scopes


async def _hooks(
    settings: Settings, gitlab: GitLabSettings, rest: RestClient, request: Request, seen: set[Scope]
) -> list[Finding]:
    owners: list[tuple[ScopeKind, str | int]] = list(request.hook_owners) or [
        (scope.kind, scope.id or 0) for scope in sorted(seen, key=str)
    ]
    if not owners:
        what = "not looked at: it is not known whose hooks to look at"
        return [Finding(Level.SKIP, "hooks", what, "Say --project PATH or --group PATH")]
    heard = counter_of(settings) if request.send_test else None
    findings: list[Finding] = []
    for owner in owners:
        try:
            scope = await rest.scope(*owner)
        except CallRefused as error:
            level = Level.FAIL if request.hook_owners else Level.SKIP
            findings.append(Finding(level, f"hook of {owner[0]} {owner[1]}", error.message, error.remedy))
        except FireRunnerError as error:
            findings.append(
                Finding(Level.WARN, f"hook of {owner[0]} {owner[1]}", error.message, error.remedy)
            )
        else:
            findings += await check_hooks(rest, scope, gitlab, url=request.webhook_url, heard=heard)
    return findings
