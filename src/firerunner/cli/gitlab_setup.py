"""Shows what `firerunner gitlab setup` will do, has it agreed to and done, and shows how it went."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer

from firerunner.cli.output import errors, out, print_json, print_table
from firerunner.errors import FireRunnerError, SettingsError
from firerunner.gitlab import RestClient
from firerunner.setup.acting import Outcome, carry_out
from firerunner.setup.deciding import Action, HookStep, RunnerStep, Step
from firerunner.setup.wishes import HookWish


@dataclass(frozen=True, slots=True)
class Manner:
    """How the command was called."""

    dry_run: bool
    yes: bool
    as_json: bool


async def show_and_do(rest: RestClient, steps: Sequence[Step], hook: HookWish | None, manner: Manner) -> None:
    """Raises FireRunnerError for a step that cannot be done, after saying what is done and what is left."""
    blocked = [step for step in steps if step.action is Action.BLOCKED]
    todo = [step for step in steps if step.action is not Action.UNCHANGED]
    if not manner.as_json:
        _print_steps(steps)
    if blocked and not manner.dry_run:
        raise FireRunnerError(
            f"nothing has been done: {blocked[0].subject}", remedy="; ".join(blocked[0].remarks)
        )
    if manner.dry_run or not todo or not (manner.yes or _agreed()):
        if manner.as_json:
            print_json(_as_json(steps, Outcome()))
        else:
            out.print("Nothing has been done." if todo else "Nothing to do.")
        return
    outcome = await carry_out(rest, steps, hook)
    _print_outcome(steps, outcome, as_json=manner.as_json)
    if outcome.error is not None:
        raise outcome.error
    if not manner.as_json:
        out.print("Check it with `firerunner gitlab check`.", markup=False)


def _print_outcome(steps: Sequence[Step], outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(steps, outcome))
    else:
        for done in outcome.done:
            out.print(f"Done: {done}", markup=False, highlight=False, soft_wrap=True)
    for warning in outcome.warnings:
        errors.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)
    for left in outcome.left:
        errors.print(f"left: {left}", markup=False, highlight=False)


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise SettingsError("nobody can be asked here whether to do this", remedy="Say --yes or --dry-run")
    return typer.confirm("Do this?")


def _print_steps(steps: Sequence[Step]) -> None:
    print_table(
        "runners or hooks to set up",
        ("what", "action", "in GitLab", "how", "remarks"),
        [
            (
                step.subject,
                step.action,
                step.runner_id if isinstance(step, RunnerStep) else step.hook_id,
                "\n".join(_changes(step)),
                "\n".join(step.remarks),
            )
            for step in steps
        ],
    )


def _changes(step: Step) -> list[str]:
    lines = [
        f"{name}: {_shown(new)}" if old is None else f"{name}: {_shown(old)} → {_shown(new)}"
        for name, (old, new) in step.changes.items()
    ]
    if isinstance(step, HookStep) and step.send_secrets:
        lines.append("secrets: from the files of the configuration")
    return lines


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) or "none" if isinstance(value, list) else str(value)


def _as_json(steps: Sequence[Step], outcome: Outcome) -> dict[str, Any]:
    return {
        "steps": [
            {
                "what": step.subject,
                "action": step.action,
                "scope": str(step.scope),
                "id": step.runner_id if isinstance(step, RunnerStep) else step.hook_id,
                "changes": {name: {"from": old, "to": new} for name, (old, new) in step.changes.items()},
                "remarks": step.remarks,
            }
            for step in steps
        ],
        "done": outcome.done,
        "left": outcome.left,
        "warnings": outcome.warnings,
    }
