"""Looks after the runners of sized tags: which are in use, which work, which are to go, and lets them go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pydantic import SecretStr

from firerunner.control.sized_runners import Rest, unmake
from firerunner.errors import GitLabError
from firerunner.ledger import JobState, Ledger, SizedRunner
from firerunner.settings import PoolSettings

CARE_S = 60.0
"""How often runners are looked after."""
VERIFY_S = 600.0
"""How often it is asked whether a runner's token still works; sooner if a job waits for it."""
QUIET_S = 5.0
"""A pool must have had no machine for so long before its runner goes: an ask may have been on its way."""
RETRY_S = 30.0
"""When a removal that failed is tried again."""


class Care:
    """Remembers only when it last looked; the rest stands in the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        rest: Rest,
        templates: Callable[[], Sequence[PoolSettings]],
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        self._ledger = ledger
        self._rest = rest
        self._templates = templates
        self._clock = clock
        self._log = log
        self._next_at = 0.0
        self._verified: dict[str, float] = {}
        self._quiet_at: dict[str, float] = {}

    async def look_after(self) -> None:
        """Withdraw what no template wants; once a minute, see what is in use, what works, what is idle."""
        rows = []
        for row in await self._ledger.sized_runners():
            if not row.removing and pool_of(row, self._templates()) is None:
                await self._withdraw(row, "no template allows this size any more")
            elif not row.removing:
                rows.append(row)
        if self._clock() < self._next_at:
            return
        self._next_at = self._clock() + CARE_S
        at_work = {job.pool for job in await self._ledger.jobs()}
        for row in rows:
            if row.pool in at_work:
                await self._ledger.touch_sized_runner(row.pool)
            elif self._clock() - row.used_at > self._unused_s(row):
                await self._unused(row)
            else:
                await self.works(row, VERIFY_S)

    async def works(self, row: SizedRunner, every_s: float) -> bool:
        """False if GitLab does not take the runner's token any more; then it is withdrawn.

        It is asked if the last time was `every_s` seconds ago. Where it cannot be asked, it is believed.
        """
        now = self._clock()
        if now - self._verified.get(row.pool, row.created_at) < every_s:
            return True
        self._verified[row.pool] = now
        try:
            if await self._rest(row.gitlab).runner_of(row.token) is not None:
                return True
        except GitLabError as error:
            self._log.warning("cannot ask whether a runner's token works", pool=row.pool, error=str(error))
            return True
        await self._withdraw(row, "GitLab does not take its token any more: deleted or changed by hand")
        return False

    async def remove(self) -> None:
        """Delete runners that are withdrawn, once their last machine is gone."""
        rows = [row for row in await self._ledger.sized_runners() if row.removing]
        if not rows:
            return
        busy = {machine.pool for machine in await self._ledger.machines()}
        busy |= {job.pool for job in await self._ledger.jobs()}
        for row in rows:
            if row.pool in busy:
                self._quiet_at.pop(row.pool, None)
            elif self._clock() >= self._quiet_at.setdefault(row.pool, self._clock() + QUIET_S):
                await self._remove(row)

    async def _remove(self, row: SizedRunner) -> None:
        try:
            await unmake(self._ledger, self._rest(row.gitlab), row)
        except GitLabError as error:
            self._quiet_at[row.pool] = self._clock() + RETRY_S
            self._log.warning("cannot remove a runner from GitLab yet", pool=row.pool, error=str(error))
            return
        self._quiet_at.pop(row.pool, None)
        self._verified.pop(row.pool, None)
        self._log.info("runner of a sized tag removed", tag=row.tag, pool=row.pool)

    async def _unused(self, row: SizedRunner) -> None:
        """Jobs that came and went between two looks are in the ledger."""
        taken = [job.taken_at for job in await self._ledger.jobs(frozenset(JobState)) if job.pool == row.pool]
        if taken and self._clock() - max(taken) <= self._unused_s(row):
            await self._ledger.touch_sized_runner(row.pool)
        else:
            await self._withdraw(row, "unused")

    async def _withdraw(self, row: SizedRunner, why: str) -> None:
        await self._ledger.begin_remove_sized_runner(row.pool, reason=why)
        self._log.info("a size is withdrawn", tag=row.tag, pool=row.pool, reason=why)

    def _unused_s(self, row: SizedRunner) -> float:
        template = template_of(row, self._templates())
        return template.sized.unused if template is not None and template.sized is not None else 0.0


def template_of(row: SizedRunner, templates: Sequence[PoolSettings]) -> PoolSettings | None:
    """The template that the runner was made for."""
    found = (pool for pool in templates if (pool.name, pool.gitlab) == (row.template, row.gitlab))
    return next(found, None)


def pool_of(row: SizedRunner, templates: Sequence[PoolSettings]) -> PoolSettings | None:
    """The pool of a runner; None if its template is gone or does not allow its size any more."""
    template = template_of(row, templates)
    if template is None or template.sized is None:
        return None
    if row.vcpu > template.sized.max_vcpu or row.memory_mib > template.sized.max_memory_mib:
        return None
    return template.model_copy(
        update={
            "name": row.pool,
            "sized": None,
            "runner_token": SecretStr(row.token),
            "vcpu": row.vcpu,
            "memory_mib": row.memory_mib,
            "projects": template.projects if row.project_id is None else (row.project_id,),
        }
    )
