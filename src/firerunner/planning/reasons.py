"""Says in an operator's words why a pool does not ask."""

from __future__ import annotations

from dataclasses import dataclass

from firerunner.planning import placement
from firerunner.planning.entries import Pool
from firerunner.planning.fleet import Fleet
from firerunner.planning.plan import kept_free, wants_to_ask
from firerunner.planning.spares import may_refill


@dataclass(frozen=True, slots=True)
class WarmState:
    """How a pool stands with its warm machines."""

    wished: int
    waiting: int
    coming: int
    """Being made, or booting."""
    fewer_because: str | None
    """Why there are not as many as wished, and none is coming; None if that is not so."""


def warm_states(fleet: Fleet) -> dict[str, WarmState]:
    """Of each configured pool, as of the last event."""
    taken = kept_free(fleet)
    return {
        pool.name: WarmState(
            wished=pool.wished,
            waiting=len(pool.waiting),
            coming=pool.spare_machines - len(pool.waiting),
            fewer_because=_why_fewer(fleet, pool, taken) if pool.spare_machines < pool.wished else None,
        )
        for pool in fleet.pools.values()
        if pool.facts is not None
    }


def _why_fewer(fleet: Fleet, pool: Pool, taken: dict[str, int]) -> str:
    if not may_refill(fleet, pool):
        if fleet.now < pool.refill_at:
            return f"{pool.refill_why}; next try in {pool.refill_at - fleet.now:.0f} s"
        if pool.homeless:
            return f"job {next(iter(pool.homeless))} needs another machine first"
        return _blocked(fleet, pool)
    why = _no_room(fleet, pool, taken)
    return "about to be made" if why == "about to ask" else why


def reasons(fleet: Fleet) -> dict[str, str]:
    """For each configured pool that has no ask in flight, why, as of the last event."""
    taken = kept_free(fleet)
    return {pool.name: _blocked(fleet, pool) or _reason(fleet, pool, taken) for pool in _silent(fleet)}


def blocked(fleet: Fleet) -> dict[str, str]:
    """Those of `reasons` that would keep the pool from asking even with room and jobs for it."""
    return {pool.name: why for pool in _silent(fleet) if (why := _blocked(fleet, pool))}


def _silent(fleet: Fleet) -> list[Pool]:
    return [pool for pool in fleet.pools.values() if pool.facts is not None and not pool.asks]


def _blocked(fleet: Fleet, pool: Pool) -> str:
    """Why the pool may not ask at all; empty if it may."""
    facts, now = pool.facts, fleet.now
    if facts is None:
        return "it is not configured"
    if facts.paused_reason is not None:
        return facts.paused_reason
    if not facts.image_ready:
        return "its image is missing: run firerunner image build"
    if not fleet.started:
        return "starting: looking at hosts and machines"
    if now < pool.retry_at:
        return f"{pool.retry_reason}; next try in {pool.retry_at - now:.0f} s"
    if now < pool.failed_until:
        wait_s = pool.failed_until - now
        return f"the last {pool.failures} machines ended before they had booted; next try in {wait_s:.0f} s"
    return ""


def _reason(fleet: Fleet, pool: Pool, taken: dict[str, int]) -> str:
    """Why a pool that may ask does not do so now."""
    if pool.homeless:
        return f"job {next(iter(pool.homeless))} needs another machine first; {_no_room(fleet, pool, {})}"
    if pool.facts is not None and not wants_to_ask(pool, fleet.now):
        wait_s = pool.last_answer_at + pool.facts.check_interval_s - fleet.now
        return f"GitLab had no job; next ask in {wait_s:.1f} s"
    return _no_room(fleet, pool, taken)


def _no_room(fleet: Fleet, pool: Pool, taken: dict[str, int]) -> str:
    facts = pool.facts
    if facts is None:
        return "it is not configured"
    if pool.count >= facts.limit:
        return f"limit of {facts.limit} machines reached"
    if placement.pick(facts.hosts, fleet.hosts, facts.resources, fleet.now) is not None:
        for name in facts.hosts:
            if name in taken:
                return f"no room: host {name} is kept free for job {taken[name]}, which needs another machine"
        return "about to ask"
    return placement.explain(facts.hosts, fleet.hosts, facts.resources, fleet.now)
