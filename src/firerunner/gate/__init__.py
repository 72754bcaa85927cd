"""The gate: what guests may say, and to whom it is passed on.

It is the only way from a guest to GitLab's runner API. It works from the ledger alone, so it may be
restarted at any moment; what it keeps in memory only saves queries.
"""

from firerunner.gate.app import Gate, create_gate
from firerunner.gate.credentials import digest as credential_digest
from firerunner.gate.events import (
    GateEvent,
    GuestAsked,
    GuestBooted,
    GuestBootedAgain,
    GuestEnded,
    JobDelivered,
    JobDropped,
    JobFinal,
    JobGone,
    JobSpoke,
)
from firerunner.gate.limits import Limits
from firerunner.gate.ports import Facts, GateLedger, GuestFacts
from firerunner.gate.refusals import GATE_SAYS

__all__ = [
    "GATE_SAYS",
    "Facts",
    "Gate",
    "GateEvent",
    "GateLedger",
    "GuestAsked",
    "GuestBooted",
    "GuestBootedAgain",
    "GuestEnded",
    "GuestFacts",
    "JobDelivered",
    "JobDropped",
    "JobFinal",
    "JobGone",
    "JobSpoke",
    "Limits",
    "create_gate",
    "credential_digest",
]
