"""The pure core: which pool asks now, where machines go, and why a pool does not ask."""

from firerunner.planning.actions import Action, Ask, Assign, Launch, Refill, Retire
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
from firerunner.planning.facts import HostFacts, PoolFacts
from firerunner.planning.fleet import Fleet
from firerunner.planning.plan import plan
from firerunner.planning.reasons import blocked, reasons
from firerunner.planning.standing import HostStanding, PoolStanding, PoolState, Standing, standing

__all__ = [
    "Action",
    "Ask",
    "AskEnded",
    "AskOutcome",
    "Assign",
    "Event",
    "Fleet",
    "HostChanged",
    "HostFacts",
    "HostStanding",
    "JobHomeless",
    "JobOver",
    "Launch",
    "MachineMoved",
    "MachineRemoved",
    "NotDone",
    "PoolChanged",
    "PoolFacts",
    "PoolLimited",
    "PoolStanding",
    "PoolState",
    "PoolWoken",
    "Refill",
    "Retire",
    "Standing",
    "Tick",
    "blocked",
    "plan",
    "reasons",
    "standing",
]
