"""The states of machines and jobs, and the two tables that say which transitions are legal."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class MachineState(StrEnum):
    """Where a machine is in its one life."""

    RESERVED = (
        "reserved"  # has an id and a claim on room; nothing exists yet. Control asks GitLab or launches.
    )
    CREATING = "creating"  # the driver is making it. Control waits for the driver.
    BOOTING = "booting"  # the VMM runs. Control waits for the guest's first word at the gate.
    WAITING = "waiting"  # the guest is in touch with the gate and has no job: warm, or its job comes now.
    BUSY = "busy"  # its job has been delivered. Control waits for the job's end and the guest's.
    FAILED = "failed"  # it broke, died, lied or was late. Control retires it.
    RETIRING = "retiring"  # it is being destroyed; its runner manager record is removed from GitLab.
    GONE = "gone"  # nothing of it is left anywhere.


class JobState(StrEnum):
    """Where a job is between GitLab's hand-over and its end."""

    TAKEN = "taken"  # GitLab has handed it to us; it waits for a machine.
    ASSIGNED = "assigned"  # a machine is meant for it; we keep it alive in GitLab until the guest asks.
    DELIVERED = "delivered"  # the guest's runner has got it; the gate waits for its first job call.
    RUNNING = "running"  # the runner has spoken about it; the runner itself keeps it alive.
    ENDED = "ended"  # GitLab knows its final status.
    RETURNED = "returned"  # we failed it as ours to fail (runner_system_failure), with the reason.


_M = MachineState
_J = JobState

MACHINE_TRANSITIONS: Final[Mapping[MachineState, frozenset[MachineState]]] = {
    _M.RESERVED: frozenset({_M.CREATING, _M.FAILED, _M.RETIRING}),
    # CREATING to WAITING: the guest's first word was quicker than the driver's answer.
    _M.CREATING: frozenset({_M.BOOTING, _M.WAITING, _M.FAILED, _M.RETIRING}),
    _M.BOOTING: frozenset({_M.WAITING, _M.FAILED, _M.RETIRING}),
    _M.WAITING: frozenset({_M.BUSY, _M.FAILED, _M.RETIRING}),
    _M.BUSY: frozenset({_M.FAILED, _M.RETIRING}),
    _M.FAILED: frozenset({_M.RETIRING}),
    _M.RETIRING: frozenset({_M.GONE, _M.FAILED}),
    _M.GONE: frozenset(),
}

JOB_TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = {
    _J.TAKEN: frozenset({_J.ASSIGNED, _J.ENDED, _J.RETURNED}),
    # ASSIGNED to TAKEN: its machine failed before the job was delivered, another one may have it.
    _J.ASSIGNED: frozenset({_J.DELIVERED, _J.TAKEN, _J.ENDED, _J.RETURNED}),
    _J.DELIVERED: frozenset({_J.RUNNING, _J.ENDED, _J.RETURNED}),
    _J.RUNNING: frozenset({_J.ENDED, _J.RETURNED}),
    _J.ENDED: frozenset(),
    _J.RETURNED: frozenset(),
}

LIVE_MACHINES: Final = frozenset(MachineState) - {MachineState.GONE}
COMING_MACHINES: Final = frozenset({MachineState.CREATING, MachineState.BOOTING})
"""Those whose guest may say its first word."""
OPEN_JOBS: Final = frozenset(JobState) - {JobState.ENDED, JobState.RETURNED}
