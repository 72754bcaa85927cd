"""The database: jobs, machines, and the journal of what happened to them."""

from firerunner.ledger.keyring import Keyring
from firerunner.ledger.ledger import Ledger
from firerunner.ledger.records import (
    DIGESTS,
    HOST,
    SIZED,
    Clock,
    HostOrder,
    HostUse,
    JobRecord,
    JournalEntry,
    Lease,
    MachineFacts,
    MachineRecord,
    NewJob,
    Pruned,
    SizedRunner,
)
from firerunner.ledger.states import LIVE_MACHINES, OPEN_JOBS, JobState, MachineState

__all__ = [
    "DIGESTS",
    "HOST",
    "LIVE_MACHINES",
    "OPEN_JOBS",
    "SIZED",
    "Clock",
    "HostOrder",
    "HostUse",
    "JobRecord",
    "JobState",
    "JournalEntry",
    "Keyring",
    "Lease",
    "Ledger",
    "MachineFacts",
    "MachineRecord",
    "MachineState",
    "NewJob",
    "Pruned",
    "SizedRunner",
]
