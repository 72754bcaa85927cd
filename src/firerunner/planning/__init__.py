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
from firerunner.planning.reasons import WarmState, blocked, reasons, warm_states
from firerunner.planning.standing import HostStanding, PoolStanding, PoolState, Standing, standing
from firerunner.planning.warm import Auto, Schedule, WarmRule, Window

__all__ = [
    "Action",
    "Ask",
    "AskEnded",
    "AskOutcome",
    "Assign",
    "Auto",
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
    "Schedule",
    "Standing",
    "Tick",
    "WarmRule",
    "WarmState",
    "Window",
    "blocked",
    "plan",
    "reasons",
    "standing",
    "warm_states",
]
