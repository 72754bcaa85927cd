"""Looks at what is there, in GitLab and in files, and has it decided what to do. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from firerunner.errors import CallRefused, SettingsError
from firerunner.gitlab import HookRecord, RestClient, RunnerRecord, RunnerSummary, Scope
from firerunner.setup.deciding import SeenRunner, Step, decide_hook, decide_runner
from firerunner.setup.marks import description_of, mark_of
from firerunner.setup.secret_files import read_secret
from firerunner.setup.wishes import HookWish, RunnerWish


async def make_plan(
    rest: RestClient,
    scope: Scope,
    runners: Sequence[RunnerWish],
    hook: HookWish | None,
    hook_scopes: Sequence[Scope],
) -> list[Step]:
    """What has to be done. Raises FireRunnerError."""
    steps: list[Step] = []
    if runners:
        there = await _runners(rest, scope)
        steps += [decide_runner(wish, scope, await _look(rest, wish, there)) for wish in runners]
    if hook is not None:
        new = any(secret.path is not None and read_secret(secret.path) is None for secret in hook.secrets)
        for hook_scope in hook_scopes:
            found = await _hooks(rest, hook_scope)
            steps.append(decide_hook(hook, hook_scope, found, new_secrets=new))
    return steps


async def require_scope(rest: RestClient) -> None:
    """Say at once that a token may not do it, by SettingsError; one that GitLab cannot show may still do."""
    try:
        token = await rest.token()
    except CallRefused:
        return
    if "api" not in token.scopes:
        has = ", ".join(sorted(token.scopes)) or "none"
        raise SettingsError(
            f"the token lacks the scope `api` (it has: {has})",
            remedy="Make one with `api` for this once, and revoke it afterwards",
        )


async def _runners(rest: RestClient, scope: Scope) -> list[RunnerSummary]:
    try:
        return await rest.runners(scope)
    except CallRefused as error:
        if scope.kind != "instance" or error.status != 403:
            raise
        remedy = "Runners of the whole instance need a token of an administrator; or say --group or --project"
        raise CallRefused(error.message, status=error.status, remedy=remedy) from error


async def _look(rest: RestClient, wish: RunnerWish, there: Sequence[RunnerSummary]) -> SeenRunner:
    token = read_secret(wish.token_file)
    owner = await rest.runner_of(token) if token else None
    same_name = [runner for runner in there if runner.description == description_of(wish.pool)]
    if owner is not None:
        return SeenRunner(True, owner, await _visible(rest, owner))
    mark = mark_of(wish.pool, wish.token_file)
    marked: RunnerRecord | None = None
    others = []
    for summary in same_name:
        runner = await _visible(rest, summary.id)
        if runner is not None and mark in runner.maintenance_note:
            marked = runner
        else:
            others.append(summary)
    return SeenRunner(False, None, marked, tuple(others))


async def _visible(rest: RestClient, runner_id: int) -> RunnerRecord | None:
    try:
        return await rest.runner(runner_id)
    except CallRefused as error:
        if error.status == 403:
            return None
        raise


async def _hooks(rest: RestClient, scope: Scope) -> list[HookRecord]:
    try:
        return await rest.hooks(scope)
    except CallRefused as error:
        raise explained(error, scope) from error


def explained(error: CallRefused, scope: Scope) -> CallRefused:
    """The same refusal of a hook, with what it usually means."""
    remedy = error.remedy
    if scope.kind == "group" and error.status in {403, 404}:
        remedy = (
            "Hooks of groups need GitLab Premium and the role Owner; without, name the projects "
            "instead: --hook-project PATH, once for each"
        )
    elif error.status in {403, 404}:
        remedy = f"Hooks of {scope} need a token with scope `api` and the role Maintainer"
    elif error.status in {400, 422}:
        remedy = (
            "GitLab refuses the address. If it is in a private network, an administrator has to allow it: "
            "Admin, Settings, Network, Outbound requests"
        )
    return CallRefused(error.message, status=error.status, remedy=remedy)
