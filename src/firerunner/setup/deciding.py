"""What set-up has to do, given what is wished and what is there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from firerunner.gitlab import HOOK_EVENTS, HookRecord, NewRunner, RunnerRecord, RunnerSummary, Scope
from firerunner.setup.marks import description_of, note_of
from firerunner.setup.wishes import HookWish, RunnerWish


class Action(StrEnum):
    """What is done about one runner or one hook."""

    CREATE = "create"  # it is not there
    UPDATE = "update"  # it is there, and differs
    UNCHANGED = "unchanged"  # it is as wished
    RENEW = "new token"  # it is there; its token is lost, or to be changed
    BLOCKED = "blocked"  # set-up does not know what is right: see the step's remark


@dataclass(frozen=True, slots=True)
class SeenRunner:
    """What there is for a pool."""

    token_works: bool
    owner: int | None = None
    """The id of the runner that has the token in the file."""
    runner: RunnerRecord | None = None
    """That runner, or one with our mark; None also for one that the API token may not see."""
    namesakes: tuple[RunnerSummary, ...] = ()
    """Others of the scope that are called the same."""


@dataclass(frozen=True, slots=True)
class RunnerStep:
    """What is done about a pool's runner."""

    pool: str
    scope: Scope
    action: Action
    token_file: Path
    runner_id: int | None = None
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """By GitLab's words: what it is and what it will be."""
    new: NewRunner | None = None
    remarks: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """For tables and messages."""
        return f"runner of pool {self.pool}"


@dataclass(frozen=True, slots=True)
class HookStep:
    """What is done about a hook."""

    scope: Scope
    action: Action
    url: str
    hook_id: int | None = None
    changes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    send_secrets: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def subject(self) -> str:
        """For tables and messages."""
        return f"hook of {self.scope}"


Step = RunnerStep | HookStep


def decide_runner(wish: RunnerWish, scope: Scope, seen: SeenRunner) -> RunnerStep:
    """Never overwrites a token that works, unless the wish says so."""
    runner = seen.runner
    step = RunnerStep(wish.pool, scope, Action.CREATE, wish.token_file)
    if seen.token_works and runner is None and not wish.rotate:
        remark = f"its token works; this API token may not see runner {seen.owner}, so it is left as it is"
        return replace(step, action=Action.UNCHANGED, runner_id=seen.owner, remarks=(remark,))
    if seen.token_works and runner is not None and not belongs_to(runner, scope) and not wish.rotate:
        remark = (
            f"the token in {wish.token_file} works and is that of runner {runner.id} ({runner.runner_type}), "
            f"which is not one of {scope}; --rotate {wish.pool} makes another one"
        )
        return replace(step, action=Action.BLOCKED, runner_id=runner.id, remarks=(remark,))
    if runner is None or not belongs_to(runner, scope):
        return _creation(wish, scope, step, seen)
    changes = differences(wish, runner)
    if wish.rotate or not seen.token_works:
        remark = "its token is changed" if seen.token_works else f"its token is not in {wish.token_file}"
        return replace(step, action=Action.RENEW, runner_id=runner.id, changes=changes, remarks=(remark,))
    action = Action.UPDATE if changes else Action.UNCHANGED
    return replace(step, action=action, runner_id=runner.id, changes=changes)


def differences(wish: RunnerWish, runner: RunnerRecord) -> dict[str, tuple[Any, Any]]:
    """What is wished and differs, in the words of `PUT /runners/:id`."""
    wished = {
        "tag_list": (list(runner.tags), None if wish.tags is None else sorted(wish.tags)),
        "run_untagged": (runner.run_untagged, wish.run_untagged),
        "access_level": (runner.access_level, wish.access_level),
        "maximum_timeout": (runner.maximum_timeout_s, wish.maximum_timeout_s),
    }
    return {name: (old, new) for name, (old, new) in wished.items() if new is not None and new != old}


def belongs_to(runner: RunnerRecord, scope: Scope) -> bool:
    """True if the runner is one of this scope's own."""
    owners = {"project": runner.projects, "group": runner.groups, "instance": (None,)}[scope.kind]
    return runner.runner_type == scope.runner_type and scope.id in owners


def decide_hook(wish: HookWish, scope: Scope, hooks: Sequence[HookRecord], *, new_secrets: bool) -> HookStep:
    """`new_secrets`: a secret is made in this run, so GitLab has to be told it."""
    same = [hook for hook in hooks if hook.url.rstrip("/") == wish.url]
    if not same:
        return HookStep(scope, Action.CREATE, wish.url, changes=_hook_settings(None), send_secrets=True)
    hook = same[0]
    changes = _hook_settings(hook)
    send = new_secrets or wish.resend or _lacks_a_secret(wish, hook)
    remarks = []
    if hook.alert_status not in {"", "executable"}:
        remarks.append(f"GitLab has switched it off ({hook.alert_status}): see docs/webhooks.md")
    remarks += [f"hook {other.id} has the same address: delete one" for other in same[1:]]
    return HookStep(
        scope,
        Action.UPDATE if changes or send else Action.UNCHANGED,
        wish.url,
        hook.id,
        changes,
        send,
        tuple(remarks),
    )


def _creation(wish: RunnerWish, scope: Scope, step: RunnerStep, seen: SeenRunner) -> RunnerStep:
    new = NewRunner(
        scope=scope,
        description=description_of(wish.pool),
        tags=(wish.pool,) if wish.tags is None else wish.tags,
        run_untagged=bool(wish.run_untagged),
        locked=scope.kind == "project",
        access_level=wish.access_level or "not_protected",
        maximum_timeout_s=wish.maximum_timeout_s,
        maintenance_note=note_of(wish.pool, wish.token_file),
    )
    shown = new.parameters()
    hidden = {"runner_type", "project_id", "group_id", "maintenance_note"}
    changes = {name: (None, value) for name, value in shown.items() if name not in hidden}
    remarks = []
    if not new.tags and not new.run_untagged:
        return replace(
            step,
            action=Action.BLOCKED,
            remarks=(f"without a tag and without --run-untagged {wish.pool} it would get no job",),
        )
    if seen.token_works:
        remarks.append(f"runner {seen.owner} stays in GitLab: delete it when nothing uses its token")
    remarks += [
        f"runner {other.id} has the same name and is not of this computer: delete it if nothing uses it"
        for other in seen.namesakes
    ]
    return replace(step, changes=changes, new=new, remarks=tuple(remarks))


def _hook_settings(hook: HookRecord | None) -> dict[str, tuple[Any, Any]]:
    """What a hook of ours must be and is not; all of it for one that is to be made."""
    if hook is None:  # what GitLab makes by default are hooks for push events
        wanted = {**dict.fromkeys(HOOK_EVENTS, True), "push_events": False, "enable_ssl_verification": True}
        return {name: (None, value) for name, value in wanted.items()}
    changes: dict[str, tuple[Any, Any]] = {
        name: (False, True) for name in HOOK_EVENTS if name not in hook.events
    }
    changes |= {name: (True, False) for name in sorted(hook.events) if name not in HOOK_EVENTS}
    if not hook.ssl_verification:
        changes["enable_ssl_verification"] = (False, True)
    if hook.custom_template:
        changes["custom_webhook_template"] = ("its own", "")
    return changes


def _lacks_a_secret(wish: HookWish, hook: HookRecord) -> bool:
    known = {"webhook_secret": hook.token_present, "webhook_signing_token": hook.signing_token_present}
    return any(known[secret.name] is False for secret in wish.secrets)
