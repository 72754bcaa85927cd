"""Makes and unmakes the GitLab runners of sized tags: intended, done, written down; leftovers found again.

A runner carries a random mark in its description, which the journal names before GitLab is asked. So what
a crash has left in GitLab is found by its mark, and what belongs to somebody else is never touched.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from firerunner.errors import CallRefused, GitLabError, Unreachable
from firerunner.gitlab import NewRunner, RestClient, Scope
from firerunner.ledger import SIZED, JournalEntry, Ledger, SizedRunner
from firerunner.planning.sized import Size, pool_name
from firerunner.settings import PoolSettings, SizedSettings

CREATE, DELETE = "create_runner", "delete_runner"
MIN_TIMEOUT_S = 600
"""GitLab takes no shorter `maximum_timeout`."""

Rest = Callable[[str], RestClient]
"""A GitLab's REST API by its name. Raises GitLabError if there is no token for it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Whose runner a size of a template is."""

    template: PoolSettings
    sized: SizedSettings
    size: Size
    scope: Scope

    @property
    def pool(self) -> str:
        """The name of its pool."""
        return pool_name(
            self.template.name,
            self.size,
            first_prefix=self.sized.prefixes[0],
            project_id=self.scope.id if self.scope.kind == "project" else None,
        )

    def runner(self, mark: str) -> NewRunner:
        """The runner to make: for exactly this tag."""
        return NewRunner(
            scope=self.scope,
            description=description_of(self.size.tag, mark),
            tags=(self.size.tag,),
            run_untagged=False,
            locked=True,
            maximum_timeout_s=max(MIN_TIMEOUT_S, math.ceil(self.template.max_job_time)),
            maintenance_note=(
                f"Made by FireRunner for jobs with the tag {self.size.tag}, template {self.template.name}. "
                f"It removes it when it is unused. firerunner-sized:{mark}"
            ),
        )


def place_of(template: PoolSettings, size: Size, project_id: int) -> Place:
    """Where the runner for a job of this project is made. The template must be `sized`."""
    sized = template.sized
    if sized is None:
        raise ValueError(f"pool {template.name} is no template")
    scope = {
        "project": Scope("project", project_id),
        "group": Scope("group", sized.group_id),
        "instance": Scope("instance"),
    }[sized.runner_type]
    return Place(template, sized, size, scope)


def description_of(tag: str, mark: str) -> str:
    """What the runner is called in GitLab."""
    return f"firerunner {tag} {mark}"


async def make(ledger: Ledger, rest: RestClient, place: Place) -> SizedRunner:
    """Make the runner in GitLab and write it down. Raises GitLabError or LedgerError, and leaves nothing
    behind, or an unfinished intention for `settle`."""
    mark = secrets.token_hex(8)
    told = {
        "gitlab": place.template.gitlab,
        "template": place.template.name,
        "scope": place.scope.kind,
        "scope_id": place.scope.id,
        "mark": mark,
    }
    seq = await ledger.intend(CREATE, place.size.tag, told, subject_kind=SIZED)
    try:
        runner_id, token = await rest.create_runner(place.runner(mark))
    except Unreachable as error:
        await _remove_marked(rest, place.scope, place.size.tag, mark)  # fails as well: `settle` does it later
        await ledger.done(seq, f"unanswered, nothing is left: {error.message}")
        raise
    except GitLabError as error:
        await ledger.done(seq, f"refused: {error.message}")
        raise
    row = await ledger.add_sized_runner(
        pool=place.pool,
        gitlab=place.template.gitlab,
        template=place.template.name,
        tag=place.size.tag,
        project_id=place.scope.id if place.scope.kind == "project" else None,
        vcpu=place.size.vcpu,
        memory_mib=place.size.memory_mib,
        runner_id=runner_id,
        token=token,
    )
    await ledger.done(seq, {"outcome": "made", "runner": runner_id})
    return row


async def unmake(ledger: Ledger, rest: RestClient, row: SizedRunner) -> None:
    """Delete the runner in GitLab, whoever has done so before, and forget it."""
    told = {"gitlab": row.gitlab, "runner": row.runner_id}
    seq = await ledger.intend(DELETE, row.tag, told, subject_kind=SIZED)
    try:
        outcome = await _deleted(rest, row)
    except GitLabError as error:
        await ledger.done(seq, f"failed: {error.message}")
        raise
    await ledger.remove_sized_runner(row.pool)
    await ledger.done(seq, outcome)


async def _deleted(rest: RestClient, row: SizedRunner) -> str:
    if await rest.delete_own_runner(row.token):
        return "deleted"
    try:  # its token was changed by hand, or it is gone
        return "deleted" if await rest.delete_runner(row.runner_id) else "it was gone"
    except CallRefused as error:
        return f"runner {row.runner_id} stays in GitLab: {error.message}"


async def settle(ledger: Ledger, rest: Rest, log: Any) -> bool:
    """Put right what a crash or a lost answer has left. False if something could not be looked at now."""
    whole = True
    for entry in await ledger.unfinished():
        if entry.subject_kind != SIZED:
            continue
        try:
            outcome = await _settled(ledger, rest, entry)
        except GitLabError as error:
            log.warning(
                "cannot look for a runner that may be left in GitLab", tag=entry.subject, error=str(error)
            )
            whole = False
            continue
        await ledger.done(entry.seq, outcome)
        log.warning("a side effect that was broken off is settled", tag=entry.subject, outcome=outcome)
    return whole


async def _settled(ledger: Ledger, rest: Rest, entry: JournalEntry) -> str:
    if entry.event != CREATE:
        return "unknown; it is repeated"
    told = entry.detail
    ours = {row.runner_id for row in await ledger.sized_runners()}
    scope = Scope(told["scope"], told["scope_id"])
    removed = await _remove_marked(rest(told["gitlab"]), scope, entry.subject, told["mark"], but=ours)
    return f"removed runner {removed}" if removed is not None else "nothing was left"


async def _remove_marked(
    rest: RestClient, scope: Scope, tag: str, mark: str, *, but: set[int] | None = None
) -> int | None:
    for runner in await rest.runners(scope, tag=tag):
        if runner.description == description_of(tag, mark) and runner.id not in (but or set()):
            await rest.delete_runner(runner.id)
            return runner.id
    return None
