"""Counts what the fleet holds, for who looks at it from outside."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from firerunner.ledger.states import MachineState
from firerunner.machines.spec import Resources
from firerunner.planning import placement
from firerunner.planning.entries import NOTHING, Pool
from firerunner.planning.fleet import Fleet
from firerunner.planning.plan import wants_to_ask
from firerunner.planning.reasons import blocked


class PoolState(StrEnum):
    """What a pool does about asking; `reasons` says the same in words."""

    ASKING = "asking"  # at least one ask is in flight
    IDLE = "idle"  # it waits for its next ask
    LIMIT = "limit"  # it would ask, and has as many machines as it may have
    NO_ROOM = "no_room"  # it would ask, and no host has room
    HOMELESS = "homeless"  # a job of it needs another machine first
    BLOCKED = "blocked"  # it may not ask


@dataclass(frozen=True, slots=True)
class PoolStanding:
    """One configured pool."""

    state: PoolState
    limit: int
    warm: int
    homeless: int


@dataclass(frozen=True, slots=True)
class HostStanding:
    """One host."""

    usable: bool
    capacity: Resources
    used: Resources


@dataclass(frozen=True, slots=True)
class Standing:
    """The whole fleet in numbers."""

    machines: dict[tuple[str, str, MachineState], int]
    """By pool, host and state."""
    pools: dict[str, PoolStanding]
    hosts: dict[str, HostStanding]


def standing(fleet: Fleet) -> Standing:
    """As of the last event. Looks at each machine once."""
    why = blocked(fleet)
    machines = Counter((each.pool, each.host, each.state) for each in fleet.machines.values())
    return Standing(
        machines=dict(machines),
        pools={
            name: PoolStanding(
                _state(fleet, pool, name in why), pool.facts.limit, pool.wished, len(pool.homeless)
            )
            for name, pool in fleet.pools.items()
            if pool.facts is not None
        },
        hosts={
            name: HostStanding(
                host.is_usable(fleet.now), host.facts.capacity if host.facts else NOTHING, host.used
            )
            for name, host in fleet.hosts.items()
        },
    )


def _state(fleet: Fleet, pool: Pool, is_blocked: bool) -> PoolState:
    facts = pool.facts
    if pool.asks:
        return PoolState.ASKING
    if is_blocked or facts is None:
        return PoolState.BLOCKED
    if pool.homeless:
        return PoolState.HOMELESS
    if not wants_to_ask(pool, fleet.now):
        return PoolState.IDLE
    if pool.count >= facts.limit:
        return PoolState.LIMIT
    fits = placement.pick(facts.hosts, fleet.hosts, facts.resources, fleet.now)
    return PoolState.NO_ROOM if fits is None else PoolState.IDLE
