"""Machines without a job: how many there are to be, which are replaced, and which give way to an ask."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain, islice
from math import inf
from zlib import crc32

from firerunner.planning import placement
from firerunner.planning.actions import Action, Refill
from firerunner.planning.entries import Claim, Machine, Pool, Purpose
from firerunner.planning.facts import PoolFacts
from firerunner.planning.fleet import Fleet
from firerunner.planning.warm import FALL_EVERY_S, Auto, wished

STAGGER = 0.25
"""By up to this part of the age, machines that were made together are retired apart."""
REPLACED_BEFORE = 0.1
"""In the last part of its time, of this length, a machine is replaced before it is retired."""
LOOK_EVERY_S = 5.0
SEARCH_EVERY_S = 0.5
GAVE_WAY_PAUSE_S = 300.0
"""A pool whose warm machine gave way makes no new one for so long: the room is not taken to and fro."""


def place_for(fleet: Fleet, facts: PoolFacts, avoid: Collection[str] = ()) -> str | None:
    """The host for one more machine of the pool."""
    return placement.pick(facts.hosts, fleet.hosts, facts.resources, fleet.now, avoid, packed=facts.packed)


def wish(fleet: Fleet, pool: Pool) -> None:
    """Reckon anew how many warm machines the pool is to have."""
    if pool.facts is None:
        return
    number = wished(pool.facts.warm, fleet.now, pool.experience)
    if isinstance(pool.facts.warm, Auto) and number < pool.wished:
        if fleet.now < pool.wish_fell_at + FALL_EVERY_S:
            return
        number = pool.wished - 1
    if number != pool.wished:
        pool.wished, pool.wish_fell_at = number, fleet.now


def refills(fleet: Fleet, avoid: dict[str, int]) -> list[Action]:
    """Warm machines that are missing, and for each pool one that replaces another."""
    actions: list[Action] = []
    for pool in fleet.pools.values():
        facts = pool.facts
        if facts is None or not may_refill(fleet, pool):
            continue
        target = pool.wished
        if any(machine_id in pool.waiting for machine_id in pool.stale):
            target += 1
        while pool.spare_machines < target and pool.count < facts.limit:
            host = place_for(fleet, facts, avoid)
            if host is None:
                break
            pool.refills += 1
            claim = Claim(Purpose.REFILL, host, facts.resources, fleet.now)
            fleet.claim(pool, f"refill-{pool.refills}", claim)
            actions.append(Refill(pool.name, host))
    return actions


def may_refill(fleet: Fleet, pool: Pool) -> bool:
    """True while warm machines of the pool are made, if there is room."""
    facts = pool.facts
    if facts is None or facts.paused_reason is not None or not facts.image_ready or pool.homeless:
        return False
    return pool.wished > 0 and fleet.now >= max(pool.refill_at, pool.failed_until)


def look(fleet: Fleet, pool: Pool) -> None:
    """Find the waiting machines that are to be replaced: outdated ones, and those whose time is nearly up."""
    facts = pool.facts
    if facts is None or fleet.now < pool.look_at:
        return
    pool.look_at = fleet.now + LOOK_EVERY_S
    pool.stale = tuple(each for each in pool.waiting if _is_stale(fleet, facts, each))
    left_s = {each: _time_left_s(fleet, facts, fleet.machines[each]) for each in pool.stale}
    pool.expired = frozenset(each for each in pool.stale if left_s[each] <= 0)


def _is_stale(fleet: Fleet, facts: PoolFacts, machine_id: str) -> bool:
    machine = fleet.machines[machine_id]
    left_s = _time_left_s(fleet, facts, machine)
    return machine.is_outdated(facts) or left_s < REPLACED_BEFORE * facts.warm_age_s


def _time_left_s(fleet: Fleet, facts: PoolFacts, machine: Machine) -> float:
    if machine.since is None:
        return inf
    own = 1 - STAGGER * crc32(machine.machine_id.encode()) / 2**32
    return machine.since + own * facts.warm_age_s - fleet.now


def retire_old(fleet: Fleet, pool: Pool) -> None:
    """Retire what has waited its time; where no other can be made first, also one that is outdated."""
    facts = pool.facts
    if facts is None or not pool.stale:
        return
    engaged = pool.engaged()
    stale = [each for each in pool.stale if each in pool.waiting and each not in engaged]
    for machine_id in stale:
        if _time_left_s(fleet, facts, fleet.machines[machine_id]) <= 0:
            fleet.retire(machine_id, f"it has waited as long as machines of pool {pool.name} may")
    if not may_refill(fleet, pool) or pool.spare_machines > min(len(pool.waiting), pool.wished):
        return
    if pool.count < facts.limit and place_for(fleet, facts) is not None:
        return
    for machine_id in stale:
        if machine_id in pool.waiting and fleet.machines[machine_id].is_outdated(facts):
            fleet.retire(machine_id, _why_outdated(pool))
            return


def _why_outdated(pool: Pool) -> str:
    return f"pool {pool.name} has another image or other runner options now"


def trim(fleet: Fleet, pool: Pool) -> None:
    """Retire what the pool has no use for: too many warm machines, reserved ids that were left over.

    One id without room is kept for the next ask.
    """
    facts = pool.facts
    if facts is None or facts.paused_reason is not None or pool.streak or pool.woken or pool.homeless:
        return
    _trim_waiting(fleet, pool, facts)
    if pool.has_unknown_under_way():
        return  # a reserved id may belong to that
    engaged = pool.engaged()
    kept = None
    for machine_id in [machine_id for machine_id in pool.reserved if machine_id not in engaged]:
        if fleet.machines[machine_id].room_held or kept is not None or pool.asks:
            fleet.retire(machine_id, f"a reservation of pool {pool.name} that nobody asks for")
        else:
            kept = machine_id


def _trim_waiting(fleet: Fleet, pool: Pool, facts: PoolFacts) -> None:
    """Outdated ones go first, then those whose time is nearly up, then the oldest."""
    surplus = len(pool.waiting) - pool.wished
    if surplus <= 0:
        return

    engaged = pool.engaged()
    stale = [each for each in pool.stale if each in pool.waiting and each not in engaged]
    first = sorted(stale, key=lambda each: not fleet.machines[each].is_outdated(facts))
    rest = (each for each in pool.idle() if each not in stale)
    for machine_id in list(islice(chain(first, rest), surplus)):
        if fleet.machines[machine_id].is_outdated(facts):
            fleet.retire(machine_id, _why_outdated(pool))
        elif machine_id in stale:
            fleet.retire(machine_id, "another has taken its place")
        else:
            fleet.retire(machine_id, f"more than {pool.wished} warm machines in pool {pool.name}")


def give_way(fleet: Fleet, pool: Pool, avoid: Collection[str] = ()) -> None:
    """Retire the idle warm machine that can best be spared, so that the pool gets its room.

    First one that is outdated, or of a pool without jobs, or of the pool with most of them; then the oldest.
    """
    facts = pool.facts
    if facts is None or pool.count >= facts.limit or fleet.now < pool.search_at:
        return
    if _room_is_coming(fleet, pool):
        return
    pool.search_at = fleet.now + SEARCH_EVERY_S
    best: tuple[tuple[bool, bool, int, float], str, Pool] | None = None
    for other in fleet.pools.values():
        if not other.waiting:
            continue
        for machine_id in other.idle():
            machine = fleet.machines[machine_id]
            outdated = other.facts is None or machine.is_outdated(other.facts)
            if other is pool and not outdated:
                continue
            if machine.host not in facts.hosts or machine.host in avoid or not machine.room_held:
                continue
            host = fleet.host(machine.host)
            if not host.is_usable(fleet.now) or not facts.resources.fits_in(host.free + machine.resources):
                continue
            since = machine.since if machine.since is not None else fleet.now
            cost = (not outdated, other.woken or other.streak > 0, -len(other.waiting), since)
            if best is None or cost < best[0]:
                best = (cost, machine_id, other)
    if best is None:
        return
    _, machine_id, other = best
    pool.making_room = machine_id
    if other is not pool:
        other.refill_at = fleet.now + GAVE_WAY_PAUSE_S
        other.refill_why = f"one gave way to pool {pool.name}"
    fleet.retire(machine_id, f"its room is given to pool {pool.name}")


def _room_is_coming(fleet: Fleet, pool: Pool) -> bool:
    if pool.making_room is None:
        return False
    machine = fleet.machines.get(pool.making_room)
    if machine is not None and machine.room_held and not machine.has_job:
        return True
    pool.making_room = None
    return False
