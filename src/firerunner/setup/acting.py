"""Carries out what set-up has decided, step by step, and says what is done and what is left.

A runner is never left behind without its token on disk: if the token cannot be written, the runner is
deleted again; an interruption waits until both are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from firerunner.errors import CallRefused, FireRunnerError, GitLabError, Unreachable
from firerunner.gitlab import NewRunner, RestClient
from firerunner.setup.deciding import Action, HookStep, RunnerStep, Step
from firerunner.setup.looking import explained
from firerunner.setup.secret_files import (
    new_signing_token,
    new_webhook_secret,
    read_secret,
    require_writable,
    write_secret,
)
from firerunner.setup.wishes import HookWish

MAKERS: dict[str, Callable[[], str]] = {
    "webhook_secret": new_webhook_secret,
    "webhook_signing_token": new_signing_token,
}
PARAMETERS = {"webhook_secret": "token", "webhook_signing_token": "signing_token"}
"""What GitLab calls them."""

T = TypeVar("T")


@dataclass(slots=True)
class Outcome:
    """How it went."""

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Steps that were not done, the failed one first."""
    warnings: list[str] = field(default_factory=list)
    error: FireRunnerError | None = None


async def carry_out(rest: RestClient, steps: Sequence[Step], hook: HookWish | None) -> Outcome:
    """Do the steps in order; the first that fails ends it. Repeating it later goes on where it ended."""
    outcome = Outcome()
    todo = [step for step in steps if step.action is not Action.UNCHANGED]
    for number, step in enumerate(todo):
        try:
            if isinstance(step, RunnerStep):
                outcome.done.append(await _to_the_end(_runner(rest, step)))
            elif hook is not None:
                outcome.done.append(await _to_the_end(_hook(rest, step, hook, outcome.warnings)))
        except FireRunnerError as error:
            outcome.error = error
            outcome.left = [f"{undone.subject}: {undone.action}" for undone in todo[number:]]
            break
    return outcome


async def _to_the_end(work: Awaitable[T]) -> T:
    """Let one step come to its end, also when interrupted in it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(FireRunnerError):
            await task
        raise


async def _runner(rest: RestClient, step: RunnerStep) -> str:
    match step.action:
        case Action.CREATE if step.new is not None:
            runner_id = await _create(rest, step, step.new)
            return f"made runner {runner_id} for pool {step.pool}; its token is in {step.token_file}"
        case Action.RENEW if step.runner_id is not None:
            require_writable(step.token_file)
            await _update(rest, step, step.runner_id)
            write_secret(step.token_file, await rest.reset_runner_token(step.runner_id))
            return f"changed the token of runner {step.runner_id}; the new one is in {step.token_file}"
        case Action.UPDATE if step.runner_id is not None:
            await _update(rest, step, step.runner_id)
            return f"changed runner {step.runner_id} of pool {step.pool}: {', '.join(step.changes)}"
    raise FireRunnerError(f"{step.subject}: nothing can be done", remedy="; ".join(step.remarks))


async def _create(rest: RestClient, step: RunnerStep, new: NewRunner) -> int:
    require_writable(step.token_file)
    try:
        runner_id, token = await rest.create_runner(new)
    except Unreachable:
        await _delete_unanswered(rest, new)
        raise
    try:
        write_secret(step.token_file, token)
    except FireRunnerError as error:
        try:
            await rest.delete_runner(runner_id)
        except GitLabError as still_there:
            raise FireRunnerError(
                f"{error.message}; and runner {runner_id} could not be deleted again: {still_there.message}",
                remedy=f"Delete runner {runner_id} in GitLab, mend the file, and set up again",
            ) from error
        raise FireRunnerError(
            f"{error.message}; so runner {runner_id} was deleted again", remedy=error.remedy
        ) from error
    return runner_id


async def _delete_unanswered(rest: RestClient, new: NewRunner) -> None:
    """The answer is lost, the runner may be there: its mark tells. What is still left, the next run finds."""
    with suppress(GitLabError):
        for summary in await rest.runners(new.scope):
            if summary.description == new.description:
                runner = await rest.runner(summary.id)
                if runner is not None and runner.maintenance_note == new.maintenance_note:
                    await rest.delete_runner(runner.id)


async def _update(rest: RestClient, step: RunnerStep, runner_id: int) -> None:
    if step.changes:
        await rest.update_runner(runner_id, {name: new for name, (_, new) in step.changes.items()})


async def _hook(rest: RestClient, step: HookStep, wish: HookWish, warnings: list[str]) -> str:
    said: dict[str, Any] = {"url": step.url, **{name: new for name, (_, new) in step.changes.items()}}
    if step.send_secrets:
        said |= _secrets(wish)
    try:
        if step.hook_id is None:
            hook, done = await rest.create_hook(step.scope, said), "made"
        else:
            hook, done = await rest.update_hook(step.scope, step.hook_id, said), "changed"
    except CallRefused as error:
        raise explained(error, step.scope) from error
    if "signing_token" in said and not hook.signing_token_present:
        warnings.append(
            f"{step.subject}: this GitLab does not sign webhooks. As long as webhook_signing_token_file "
            "stands in the configuration, FireRunner refuses hooks without a signature: take it out"
        )
    return f"{done} hook {hook.id} of {step.scope}"


def _secrets(wish: HookWish) -> dict[str, str]:
    """What the hook has to know; files that are not there are made."""
    said = {}
    for secret in wish.secrets:
        value = secret.given
        if secret.path is not None:
            value = read_secret(secret.path)
            if value is None:
                value = MAKERS[secret.name]()
                write_secret(secret.path, value)
        if value is not None:
            said[PARAMETERS[secret.name]] = value
    return said
