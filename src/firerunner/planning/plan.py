"""The one decision: what is to be done now, after one more event.

Order is priority: chores of single machines, then machines for homeless jobs (their time is running in
GitLab), then asks, oldest first, then warm machines with what room is left.
"""

from __future__ import annotations

from dataclasses import replace

from firerunner.machines.spec import Resources
from firerunner.planning import placement
from firerunner.planning.actions import Action, Ask, Assign, Launch, Retire
from firerunner.planning.entries import Chore, Claim, Machine, Pool, Purpose, Todo
from firerunner.planning.events import AskEnded, AskOutcome, Event, PoolChanged, Tick
from firerunner.planning.facts import PoolFacts
from firerunner.planning.fleet import Fleet
from firerunner.planning.observing import ask_key, job_key, observe
from firerunner.planning.spares import give_way, look, place_for, refills, retire_old, trim, wish

REMIND_S = 10.0
"""A machine that has not moved for so long after Launch or Retire is mentioned again."""
MOST_ASKS = 8
JOBS_PER_ASK = 2
HOST_LOOK_S = 1.0
"""How often a machine on an unusable host is looked at again."""


def plan(fleet: Fleet, event: Event) -> list[Action]:
    """Take the event in and say what is to be done. Nothing before the first `Tick`."""
    observe(fleet, event)
    if isinstance(event, Tick):
        for pool in fleet.pools.values():
            wish(fleet, pool)
            look(fleet, pool)
    elif isinstance(event, PoolChanged):
        wish(fleet, fleet.pool(event.pool.name))
    if not fleet.started:
        return []
    actions = _chores(fleet)
    actions += _homes(fleet)
    avoid = kept_free(fleet)
    actions += _asks(fleet, avoid)
    actions += refills(fleet, avoid)
    if isinstance(event, Tick):
        for pool in fleet.pools.values():
            retire_old(fleet, pool)
            trim(fleet, pool)
    elif isinstance(event, AskEnded) and event.outcome is AskOutcome.NOTHING:
        trim(fleet, fleet.pool(event.pool))
    return actions + _chores(fleet)


def wants_to_ask(pool: Pool, now: float) -> bool:
    """True if it is time for the pool to ask, room or not."""
    facts = pool.facts
    if facts is None or facts.paused_reason is not None or not facts.image_ready:
        return False
    if pool.homeless or now < max(pool.retry_at, pool.failed_until):
        return False
    asks = pool.asks
    if asks:
        return asks < asks_at_once(pool.streak)
    return pool.woken or pool.streak > 0 or now >= pool.last_answer_at + facts.check_interval_s


def asks_at_once(streak: int) -> int:
    """How many asks a pool may have in flight. While jobs keep coming one more for each two of them.

    Each of the last ones of a row finds nothing, holds room for nothing, and leaves a record in GitLab for an
    id that is used once: so a short row does not get many.
    """
    return min(1 + streak // JOBS_PER_ASK, MOST_ASKS)


def kept_free(fleet: Fleet) -> dict[str, int]:
    """Hosts where no other machine is placed until a homeless job has its own, and which job."""
    taken: dict[str, int] = {}
    for pool in fleet.pools.values():
        facts = pool.facts
        if not pool.homeless or facts is None or not facts.image_ready or pool.count >= facts.limit:
            continue
        job_id = next(iter(pool.homeless))
        for name in facts.hosts:
            if placement.could_ever_fit(fleet.hosts.get(name), facts.resources, fleet.now):
                taken.setdefault(name, job_id)
    return taken


def _chores(fleet: Fleet) -> list[Action]:
    actions: list[Action] = []
    for machine, todo in fleet.due_chores():
        if todo.chore is Chore.RETIRE:
            fleet.remind(machine.machine_id, replace(todo, due=fleet.now + REMIND_S))
            actions.append(Retire(machine.machine_id, todo.reason))
        elif fleet.host(machine.host).is_usable(fleet.now):
            fleet.remind(machine.machine_id, replace(todo, due=fleet.now + REMIND_S))
            actions.append(Launch(machine.machine_id, machine.pool))
        elif _fits_elsewhere(fleet, machine):
            fleet.remind(
                machine.machine_id,
                Todo(Chore.RETIRE, fleet.now + REMIND_S, f"host {machine.host} is not usable"),
            )
            actions.append(Retire(machine.machine_id, f"host {machine.host} is not usable"))
        else:
            fleet.remind(machine.machine_id, replace(todo, due=fleet.now + HOST_LOOK_S))
    return actions


def _fits_elsewhere(fleet: Fleet, machine: Machine) -> bool:
    facts = fleet.pool(machine.pool).facts
    return facts is not None and place_for(fleet, facts) is not None


def _homes(fleet: Fleet) -> list[Action]:
    """Machines for homeless jobs, the longest homeless first."""
    actions: list[Action] = []
    pools = [pool for pool in fleet.pools.values() if pool.homeless and pool.facts is not None]
    for pool in sorted(pools, key=lambda pool: next(iter(pool.homeless.values()))):
        while pool.homeless and (action := _home(fleet, pool)) is not None:
            actions.append(action)
    return actions


def _home(fleet: Fleet, pool: Pool) -> Assign | None:
    facts = pool.facts
    if facts is None:
        return None
    job_id = next(iter(pool.homeless))
    machine_id = fleet.fresh_waiting(pool)
    room: Resources | None = None
    if machine_id is not None:
        host = fleet.machines[machine_id].host
    elif not facts.image_ready or pool.count >= facts.limit:
        return None
    else:
        place = place_for(fleet, facts)
        if place is None:
            give_way(fleet, pool)
            return None
        host, room = place, facts.resources
    del pool.homeless[job_id]
    fleet.claim(pool, job_key(job_id), Claim(Purpose.JOB, host, room, fleet.now, job_id, machine_id))
    return Assign(job_id, pool.name, host, machine_id)


def _asks(fleet: Fleet, avoid: dict[str, int]) -> list[Action]:
    """Asks of all pools whose time has come: who has fewest in flight first, then who waits longest."""
    due = [pool for pool in fleet.pools.values() if wants_to_ask(pool, fleet.now)]
    actions: list[Action] = []
    while due:
        pool = min(due, key=lambda pool: (pool.asks, pool.last_ask_at, pool.name))
        action = _ask(fleet, pool, avoid)
        if action is not None:
            pool.woken = False
            pool.last_ask_at = fleet.now
            actions.append(action)
        if action is None or not wants_to_ask(pool, fleet.now):
            due.remove(pool)
    return actions


def _ask(fleet: Fleet, pool: Pool, avoid: dict[str, int]) -> Ask | None:
    facts = pool.facts
    if facts is None:
        return None
    machine_id = fleet.fresh_waiting(pool) or _kept_id(fleet, pool, facts)
    room: Resources | None = None
    if machine_id is not None and fleet.machines[machine_id].room_held:
        host = fleet.machines[machine_id].host
    elif pool.count >= facts.limit:
        return None
    else:
        place = place_for(fleet, facts, avoid)
        if place is None:
            if not pool.asks:
                give_way(fleet, pool, avoid)
            return None
        host, room = place, facts.resources
    pool.asked += 1
    fleet.claim(pool, ask_key(pool.asked), Claim(Purpose.ASK, host, room, fleet.now, machine_id=machine_id))
    return Ask(pool.name, machine_id, host, pool.asked)


def _may_stay(fleet: Fleet, facts: PoolFacts, kept: Machine) -> bool:
    """True if a kept id that still holds room can be asked for right where it is."""
    return (
        kept.host in facts.hosts
        and kept.resources == facts.resources
        and fleet.host(kept.host).is_usable(fleet.now)
    )


def _kept_id(fleet: Fleet, pool: Pool, facts: PoolFacts) -> str | None:
    """A reserved id that is nobody else's: one without room, or one that may be made right where it is."""
    engaged = pool.engaged()
    for machine_id in pool.reserved:
        machine = fleet.machines[machine_id]
        usable = not machine.room_held or (
            not pool.has_unknown_under_way() and _may_stay(fleet, facts, machine)
        )
        if usable and machine_id not in engaged:
            return machine_id
    return None
