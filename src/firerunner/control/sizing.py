"""Observes which sizes jobs ask for by their tags: each gets a runner, which goes when it is not needed.

A hook says only that something has happened in a project, so its pending jobs are looked at. One task
does everything, in turn: that is why twenty hooks at once make one runner.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from firerunner.control.sized_care import CARE_S, Care, pool_of
from firerunner.control.sized_runners import Place, Rest, make, place_of, settle
from firerunner.errors import GitLabError, NotLeader, TokenRefused, Unreachable
from firerunner.gitlab import PendingJob
from firerunner.intake import Hook
from firerunner.ledger import SIZED, Ledger, SizedRunner
from firerunner.planning.sized import Template, Unserved, Wanted, judge
from firerunner.settings import PoolSettings

TICK_S = 1.0
LOOK_PAUSE_S = 2.0
"""A project is not looked at more often, however many hooks come."""
TROUBLE_PAUSE_S = 30.0
"""A GitLab that could not be asked, and a runner that could not be made, are left alone for so long."""
MAX_AGE_S = 86_400.0
"""When a look at a project is forgotten."""
MAX_PROJECTS = 1000
"""Projects that wait to be looked at; hooks of more are dropped, and `look_every` is there."""

Key = tuple[str, int]
"""A GitLab's name and a project's id."""


class Sizing:
    """`on_hook` and `reasons` at any time; `restore` before the controller starts; `run` beside it."""

    def __init__(
        self,
        ledger: Ledger,
        gitlab_rest: Rest,
        templates: Callable[[], Sequence[PoolSettings]],
        set_sized_pools: Callable[[list[PoolSettings]], None],
        clock: Callable[[], float],
        log: Any,
    ) -> None:
        """`templates`: the pools with `sized`, each naming its `gitlab`. `ledger` acts as the leader."""
        self._ledger = ledger
        self._rest = gitlab_rest
        self._templates = templates
        self._set_sized_pools = set_sized_pools
        self._clock = clock
        self._log = log
        self._care = Care(ledger, gitlab_rest, templates, clock, log)
        self._news = asyncio.Event()
        self._due: dict[Key, float] = {}
        self._looked: dict[Key, float] = {}
        self._settle_at: float | None = 0.0
        self._paused: dict[str, tuple[float, str]] = {}
        self._unmade: dict[str, tuple[float, str]] = {}
        self._refusals: dict[Key, dict[str, str]] = {}
        self._declared: list[PoolSettings] | None = None

    # --- what others tell and ask ----------------------------------------------------------

    def on_hook(self, hook: Hook) -> None:
        """Jobs of this project may be pending. Never blocks."""
        if not hook.means_work or hook.project_id is None:
            return
        for template in self._templates():
            if template.gitlab in hook.gitlab and _serves(template, hook.project_id):
                self._look_soon((template.gitlab, hook.project_id))
                self._news.set()

    def reasons(self) -> dict[str, str]:
        """What of sized tags is not served, and why; for operators."""
        refused = {
            f"{tag} of project {project_id}": why
            for (_, project_id), refusals in self._refusals.items()
            for tag, why in refusals.items()
        }
        return {f"sized tags on {name}": why for name, (_, why) in self._paused.items()} | refused

    async def restore(self) -> None:
        """Declare the pools of all runners that there are, also of those on their way out: what they still
        have is ended by their settings. Raises LedgerError."""
        self._declare(await self._ledger.sized_runners())

    async def run(self) -> None:
        """Run for ever. Raises NotLeader."""
        while True:
            try:
                await self._round()
            except NotLeader:
                raise
            except Exception as error:  # the next round looks again
                self._settle_at = self._clock() + TROUBLE_PAUSE_S
                self._log.error("a round broke off", doing="sizing", error=str(error), exc_info=error)
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._news.wait()
            self._news.clear()

    # --- one round -------------------------------------------------------------------------

    async def _round(self) -> None:
        now = self._clock()
        if self._settle_at is not None and now >= self._settle_at:
            settled = await settle(self._ledger, self._rest, self._log)
            self._settle_at = None if settled else now + TROUBLE_PAUSE_S
        self._paused = {name: pause for name, pause in self._paused.items() if pause[0] > now}
        self._unmade = {name: pause for name, pause in self._unmade.items() if pause[0] > now}
        await self._care.look_after()
        self._look_at_listed()
        for key in [key for key, at in self._due.items() if self._may_look(key, at)]:
            del self._due[key]
            self._looked[key] = self._clock()
            try:
                await self._look(key)
            except Exception:
                self._look_soon(key, TROUBLE_PAUSE_S)
                raise
        await self._declare_wanted()
        await self._care.remove()

    async def _declare_wanted(self) -> None:
        self._declare([row for row in await self._ledger.sized_runners() if not row.removing])

    def _declare(self, rows: Sequence[SizedRunner]) -> None:
        pools = [pool for row in rows if (pool := pool_of(row, self._templates())) is not None]
        if pools != self._declared:
            self._declared = pools
            self._set_sized_pools(list(pools))

    def _look_soon(self, key: Key, in_s: float = 0.0) -> None:
        if key in self._due or len(self._due) < MAX_PROJECTS:
            self._due[key] = min(self._due.get(key, float("inf")), self._clock() + in_s)

    def _look_at_listed(self) -> None:
        """Look without a hook at projects that are listed, and at those with refusals to take back."""
        now = self._clock()
        every = dict.fromkeys(self._refusals, CARE_S)
        for template in self._templates():
            if template.sized is not None:
                keys = [(template.gitlab, project_id) for project_id in template.sized.projects]
                every |= {key: min(every.get(key, MAX_AGE_S), template.sized.look_every) for key in keys}
        for key, every_s in every.items():
            if now - self._looked.get(key, 0.0) >= every_s:
                self._look_soon(key)
        self._looked = {key: at for key, at in self._looked.items() if now - at < MAX_AGE_S}

    def _may_look(self, key: Key, at: float) -> bool:
        now = self._clock()
        rested = now - self._looked.get(key, 0.0) >= LOOK_PAUSE_S
        return at <= now and rested and key[0] not in self._paused

    async def _look(self, key: Key) -> None:
        """Judge the pending jobs of one project; make the runners that are missing."""
        gitlab, project_id = key
        try:
            jobs = await self._rest(gitlab).pending_jobs(project_id)
        except (Unreachable, TokenRefused) as error:
            wish_s = error.retry_after_s if isinstance(error, Unreachable) else None
            pause_s = wish_s or TROUBLE_PAUSE_S
            self._paused[gitlab] = (self._clock() + pause_s, str(error))
            self._look_soon(key)
            self._log.warning("cannot look for sized tags now", gitlab=gitlab, error=str(error))
            return
        except GitLabError as error:
            self._looked[key] = self._clock() + TROUBLE_PAUSE_S
            await self._refuse(key, {"sized tags": f"its jobs cannot be looked at: {error}"})
            return
        refusals: dict[str, str] = {}
        for job in sorted(jobs, key=lambda job: job.id):
            refused = None if job.taken else await self._serve(gitlab, job)
            if refused is not None:
                refusals.setdefault(refused.tag, f"job {job.id} ({job.name}): {refused.reason}")
        await self._refuse(key, refusals)

    async def _refuse(self, key: Key, refusals: dict[str, str]) -> None:
        """Remember what is not served now; what is new in it is told, once."""
        known = self._refusals.pop(key, {})
        if refusals:
            self._refusals[key] = refusals
        for tag, why in refusals.items():
            if tag not in known:
                self._log.warning("a sized tag is not served", tag=tag, project=key[1], reason=why)
                detail = {"gitlab": key[0], "project": key[1], "reason": why}
                await self._ledger.note(SIZED, tag[:200], "not_served", detail)

    async def _serve(self, gitlab: str, job: PendingJob) -> Unserved | None:
        """See that a job is served; why not, if it has a sized tag and is not."""
        pools = [
            pool for pool in self._templates() if pool.gitlab == gitlab and _serves(pool, job.project_id)
        ]
        verdict = judge(job.tags, [_template(pool) for pool in pools])
        if isinstance(verdict, Wanted):
            template = next(pool for pool in pools if pool.name == verdict.template)
            return await self._have_runner(place_of(template, verdict.size, job.project_id), job.project_id)
        return verdict

    async def _have_runner(self, place: Place, project_id: int) -> Unserved | None:
        gitlab, tag = place.template.gitlab, place.size.tag
        rows = await self._ledger.sized_runners()
        row = next((row for row in rows if row.pool == place.pool), None)
        if row is not None:
            if row.removing or not await self._care.works(row, CARE_S):
                self._look_soon((gitlab, project_id), LOOK_PAUSE_S)  # made anew when the old one is gone
            else:
                await self._ledger.touch_sized_runner(row.pool)
            return None
        if place.pool in self._unmade:
            return Unserved(tag, self._unmade[place.pool][1])
        sizes = Counter(row.template for row in rows)[place.template.name]
        if sizes >= place.sized.max_sizes:
            return Unserved(tag, f"template {place.template.name} has {sizes} runners already (`max_sizes`)")
        try:
            made = await make(self._ledger, self._rest(gitlab), place)
        except GitLabError as error:
            why = f"its runner cannot be made: {error}"
            self._unmade[place.pool] = (self._clock() + TROUBLE_PAUSE_S, why)
            self._look_soon((gitlab, project_id), TROUBLE_PAUSE_S)
            self._settle_at = self._clock() + TROUBLE_PAUSE_S
            return Unserved(tag, why)
        self._log.info("runner made for a sized tag", tag=tag, pool=made.pool, runner=made.runner_id)
        await self._declare_wanted()
        return None


def _serves(template: PoolSettings, project_id: int) -> bool:
    return not template.projects or project_id in template.projects


def _template(pool: PoolSettings) -> Template:
    if pool.sized is None:
        raise ValueError(f"pool {pool.name} is no template")
    return Template(pool.name, pool.sized.prefixes, pool.sized.max_vcpu, pool.sized.max_memory_mib)
