"""What each event means for the fleet. Nothing is decided here."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from firerunner.ledger.states import MachineState
from firerunner.planning.actions import Ask, Assign, Launch, Refill, Retire
from firerunner.planning.entries import NEVER, Claim, Machine, Pool, Purpose
from firerunner.planning.events import (
    AskEnded,
    AskOutcome,
    Event,
    HostChanged,
    JobHomeless,
    JobOver,
    MachineMoved,
    MachineRemoved,
    NotDone,
    PoolChanged,
    PoolLimited,
    PoolWoken,
    Tick,
)
from firerunner.planning.fleet import Fleet

NOT_DONE_PAUSE_S = 5.0
"""How long an action that was not carried out is left alone."""
FORGOTTEN_S = 60.0
"""An action of which nothing has been heard for so long is planned anew. Asks are never forgotten:
GitLab may hold one open for long, and its end is always told."""

_TOLD_ENDS = frozenset({Purpose.ASK, Purpose.JOB})
"""Actions that are not over when their machine dies: the ask has its own end, the job is told homeless."""

_DEAD = frozenset({MachineState.FAILED, MachineState.RETIRING, MachineState.GONE})


def observe(fleet: Fleet, event: Event) -> None:
    """Take one event in."""
    fleet.now = max(fleet.now, event.at)
    match event:
        case PoolWoken():
            fleet.pool(event.pool).woken = True
        case AskEnded():
            _ask_ended(fleet, event)
        case MachineMoved():
            _machine_moved(fleet, event)
        case MachineRemoved():
            _machine_removed(fleet, event.machine_id)
        case HostChanged():
            host = fleet.host(event.host.name)
            host.facts, host.unusable_until = event.host, event.until
        case PoolChanged():
            _pool_changed(fleet, event)
        case PoolLimited():
            fleet.pool(event.pool).wait(event.until, "GitLab has asked not to be asked before then")
        case JobHomeless():
            _job_homeless(fleet, event)
        case JobOver(job_id=job_id, pool=name):
            pool = fleet.pool(name)
            pool.homeless.pop(job_id, None)
            fleet.release(pool, job_key(job_id))
        case NotDone():
            _not_done(fleet, event)
        case Tick():
            _tick(fleet)
        case _:
            assert_never(event)


def _tick(fleet: Fleet) -> None:
    fleet.started = True
    for pool in fleet.pools.values():
        _forget_silent(fleet, pool)


def _pool_changed(fleet: Fleet, event: PoolChanged) -> None:
    pool = fleet.pool(event.pool.name)
    resized = pool.facts is not None and pool.facts.resources != event.pool.resources
    if pool.facts is not None and pool.facts.runner != event.pool.runner:
        pool.retry_at, pool.retry_reason = NEVER, ""
    if pool.facts != event.pool:
        pool.wish_fell_at = pool.look_at = NEVER
    pool.facts = event.pool
    if resized:
        engaged = pool.engaged()
        for machine_id in [m for m in pool.waiting if m not in engaged]:
            retire_if_resized(fleet, pool, machine_id)


def retire_if_resized(fleet: Fleet, pool: Pool, machine_id: str) -> bool:
    """A waiting machine of a size that its pool no longer has gets no job."""
    if pool.facts is None or fleet.machines[machine_id].resources == pool.facts.resources:
        return False
    fleet.retire(machine_id, f"pool {pool.name} has another size now")
    return True


def _ask_ended(fleet: Fleet, event: AskEnded) -> None:
    pool, key = fleet.pool(event.pool), ask_key(event.number)
    if key not in pool.claims:
        return
    if event.machine_id is not None:
        _correct(pool, key, event.machine_id)
    asked = fleet.release(pool, key)
    pool.last_answer_at = fleet.now
    if event.outcome is not AskOutcome.JOB:
        pool.streak = 0
        if event.outcome is not AskOutcome.NOTHING:
            if pool.facts is None or event.runner in {"", pool.facts.runner}:
                retry_at = fleet.now + NOT_DONE_PAUSE_S if event.retry_at is None else event.retry_at
                pool.wait(retry_at, event.reason or f"the last ask ended in {event.outcome}")
            pool.woken = True  # whoever woke the pool has not been served yet
        return
    pool.streak += 1
    pool.experience.note_job(fleet.now)
    if asked is not None and event.machine_id is not None and not _has_job(fleet, event.machine_id):
        # The machine with its job is told later: until then it is nobody else's, and its room is kept.
        landing = replace(asked, purpose=Purpose.LANDING, since=fleet.now, machine_id=event.machine_id)
        fleet.claim(pool, f"landing-{event.machine_id}", landing)


def _has_job(fleet: Fleet, machine_id: str) -> bool:
    machine = fleet.machines.get(machine_id)
    return machine is not None and (machine.has_job or machine.state in _DEAD)


def _job_homeless(fleet: Fleet, event: JobHomeless) -> None:
    pool = fleet.pool(event.pool)
    claim = pool.claims.get(job_key(event.job_id))
    if claim is not None and claim.machine_id is not None and _is_dead(fleet, claim.machine_id):
        fleet.release(pool, job_key(event.job_id))
        _requeue(pool, claim)
    elif claim is None and fleet.home_of(event.job_id) is None:
        pool.homeless.setdefault(event.job_id, event.at)


def _is_dead(fleet: Fleet, machine_id: str) -> bool:
    machine = fleet.machines.get(machine_id)
    return machine is None or machine.state in _DEAD


def job_key(job_id: int) -> str:
    return f"job-{job_id}"


def ask_key(number: int) -> str:
    return f"ask-{number}"


def _machine_moved(fleet: Fleet, event: MachineMoved) -> None:
    machine = Machine(
        machine_id=event.machine_id,
        pool=event.pool,
        host=event.host,
        resources=event.resources,
        state=event.state,
        has_job=event.has_job,
        room_held=event.room_held,
        job_id=event.job_id,
        since=event.since,
        image=event.image,
        baked=event.baked,
    )
    old = fleet.put(machine)
    pool = fleet.pool(machine.pool)
    if machine.job_id is not None and machine.state not in _DEAD:
        pool.homeless.pop(machine.job_id, None)
    if pool.claims:
        _follow(fleet, pool, machine, is_new=old is None)
    if machine.machine_id in pool.waiting and machine.machine_id not in pool.engaged():
        retire_if_resized(fleet, pool, machine.machine_id)


def _machine_removed(fleet: Fleet, machine_id: str) -> None:
    old = fleet.remove(machine_id)
    if old is not None:
        pool = fleet.pool(old.pool)
        for key, claim in list(pool.claims.items()):
            if claim.machine_id == machine_id and claim.purpose not in _TOLD_ENDS:
                fleet.release(pool, key)


def _follow(fleet: Fleet, pool: Pool, machine: Machine, *, is_new: bool) -> None:
    """Find the action that this move belongs to, and see whether it has come to its end."""
    key = _belongs_to(pool, machine, is_new=is_new)
    if key is None:
        return
    _correct(pool, key, machine.machine_id)
    claim = pool.claims[key]
    if machine.state in _DEAD and claim.purpose not in _TOLD_ENDS:
        fleet.release(pool, key)
        return
    if machine.room_held or machine.state in _DEAD:
        fleet.settle(pool, key, machine.machine_id)
    if machine.state in _DEAD:
        return
    over = {
        Purpose.ASK: False,
        Purpose.LANDING: machine.has_job,
        Purpose.JOB: machine.has_job,
        Purpose.REFILL: machine.state is not MachineState.RESERVED,
    }
    if over[claim.purpose]:
        fleet.release(pool, key)


def _correct(pool: Pool, key: str, machine_id: str) -> None:
    """If another action was thought to be this machine's, the two change places."""
    mine = pool.claims[key]
    for other, claim in pool.claims.items():
        if other != key and claim.machine_id == machine_id:
            pool.claims[other] = replace(claim, room=mine.room, machine_id=mine.machine_id)
            pool.claims[key] = replace(mine, room=claim.room, machine_id=machine_id)
            return


def _belongs_to(pool: Pool, machine: Machine, *, is_new: bool) -> str | None:
    if machine.job_id is not None and job_key(machine.job_id) in pool.claims:
        return job_key(machine.job_id)
    for key, claim in pool.claims.items():
        if claim.machine_id == machine.machine_id:
            return key
    if not is_new:
        return None
    # New machines that do not say whose they are: the oldest action on that host that fits.
    fitting = (
        (Purpose.JOB, Purpose.ASK)
        if machine.has_job
        else (Purpose.ASK, Purpose.JOB, Purpose.REFILL)
        if machine.state is MachineState.RESERVED
        else (Purpose.REFILL,)
    )
    for purpose in fitting:
        for key, claim in pool.claims.items():
            if claim.purpose is purpose and claim.machine_id is None and claim.host == machine.host:
                return key
    return None


def _not_done(fleet: Fleet, event: NotDone) -> None:
    match event.action:
        case Ask(pool=name, machine_id=machine_id, number=number):
            retry_at = event.at + NOT_DONE_PAUSE_S
            outcome = AskOutcome.TROUBLE
            ended = AskEnded(name, number, machine_id, outcome, event.at, retry_at, event.reason)
            _ask_ended(fleet, ended)
        case Assign(job_id=job_id, pool=name):
            pool = fleet.pool(name)
            claim = fleet.release(pool, job_key(job_id))
            if claim is not None:
                _requeue(pool, claim)
        case Refill(pool=name, host=host):
            pool = fleet.pool(name)
            pool.refill_at = event.at + NOT_DONE_PAUSE_S
            pool.refill_why = event.reason or "the last one could not be made"
            for key, claim in pool.claims.items():
                if claim.purpose is Purpose.REFILL and claim.machine_id is None and claim.host == host:
                    fleet.release(pool, key)
                    break
        case Launch(machine_id=machine_id) | Retire(machine_id=machine_id):
            todo = fleet.todos.get(machine_id)
            if todo is not None:
                fleet.remind(machine_id, replace(todo, due=event.at + NOT_DONE_PAUSE_S))


def _requeue(pool: Pool, claim: Claim) -> None:
    """Its job waits again, before those that came later."""
    if claim.job_id is not None:
        pool.homeless = {claim.job_id: claim.since, **pool.homeless}


def _forget_silent(fleet: Fleet, pool: Pool) -> None:
    for key, claim in list(pool.claims.items()):
        if claim.purpose is Purpose.ASK or fleet.now - claim.since < FORGOTTEN_S:
            continue
        fleet.release(pool, key)
        if claim.purpose is Purpose.JOB:
            _requeue(pool, claim)
