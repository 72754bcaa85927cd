"""What the ledger gives out and takes in: facts about machines, jobs and the journal, frozen.

All times are Unix seconds as a float, by the clock that was given to `Ledger.open`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypedDict

from firerunner.ledger.states import JobState, MachineState
from firerunner.machines.spec import Resources

Clock = Callable[[], float]
"""Gives the Unix time in seconds. `time.time`, or a test's own."""


SIZED = "sized"
"""The journal's word for what is about runners of sized tags; the subject is the tag."""

DEFAULT_GITLAB = "gitlab"
"""What the only GitLab of a service is called."""


HOST = "host"
"""The journal's word for what happens to a host."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Who leads, and the last beat of its heart."""

    holder: str
    """One run of one process; empty after a leader that resigned."""
    epoch: int
    beats: int


class HostUse(StrEnum):
    """What an operator wants of a host."""

    NORMAL = "normal"  # machines are made there
    CORDONED = "cordoned"  # no new ones; those that are there go on, also without a job yet
    DRAINING = "draining"  # no new ones, those without a job go, those with one end it


@dataclass(frozen=True, slots=True)
class HostOrder:
    """What an operator has said of a host."""

    use: HostUse
    reason: str
    since: float
    """Unix seconds."""
    believed_at: float | None = None
    """When what the host showed was said to be true, however strange (Unix seconds)."""


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """One machine as the ledger knows it."""

    machine_id: str
    pool: str
    host: str
    state: MachineState
    state_since: float
    resources: Resources
    image_digest: str
    created_at: float
    credential_hash: str | None = field(default=None, repr=False)
    """SHA-256 in hex of the one-machine credential; the credential itself is nowhere in the ledger."""
    boots: int = 0
    """How often a guest with this machine's credential has said `booted`. More than 1 is refused."""
    ask_started_at: float | None = None
    """Set while an ask to GitLab is in flight for this machine, and after a crash in the middle of one."""
    room_held: bool = True
    """True while the machine's resources count against its host. An id kept for the next ask holds none."""
    manager_known: bool = False
    """True once the id may have reached GitLab, where a runner manager record is then to be removed."""
    vmm_started_at: float | None = None
    booted_at: float | None = None
    ended_reported_at: float | None = None
    """When the guest said `ended`."""
    exit_code: int | None = None
    """What the guest said about its runner's exit; says nothing about the job."""
    job_id: int | None = None
    """The job that is or was meant for this machine."""
    reason: str = ""
    """Why it is in this state, for operators."""
    gitlab: str = DEFAULT_GITLAB
    """The name of the GitLab that it is asked for."""
    project_path: str | None = None
    """The project of its job."""
    held_until: float | None = None
    """Until when it is kept for a look, its job having failed; None if it is not."""
    baked: str | None = field(default=None, repr=False)
    """The mark (`Ledger.mark`) of all that it was given at its boot (`control.warming.given`); None before
    its launch, and of machines that an earlier version made."""


DIGESTS = frozenset({"credential_hash", "baked"})
"""What of a machine serves to compare, and tells a reader nothing."""


class MachineFacts(TypedDict, total=False):
    """What `move_machine` may write together with the new state."""

    host: str
    image_digest: str
    credential_hash: str
    baked: str
    manager_known: bool
    room_held: bool
    vmm_started_at: float
    ended_reported_at: float
    exit_code: int


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is needed of GitLab's answer to write a job down; the rest stays in the kept raw answer."""

    job_id: int
    """GitLab's id."""
    job_token: str = field(repr=False)
    name: str
    project_id: int
    project_path: str
    timeout_s: int | None
    """`runner_info.timeout` of the answer; None if GitLab gave none."""


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job that a GitLab has handed to us."""

    job_id: int
    """The ledger's number for it: GitLab's id, unless a job of another GitLab has that number."""
    gitlab: str
    """The name of the GitLab that it came from."""
    gitlab_job_id: int
    """GitLab's id, by which it is named in every call."""
    pool: str
    machine_id: str | None
    state: JobState
    state_since: float
    name: str
    project_id: int
    project_path: str
    timeout_s: int | None
    taken_at: float
    gitlab_status: str | None = None
    """GitLab's own status word, as last seen."""
    failure_reason: str | None = None
    """GitLab's own failure reason, as reported by the runner or by us."""
    first_call_at: float | None = None
    """When the runner first spoke about the job."""
    attempts: int = 0
    """How many machines have been meant for it."""
    trace_bytes: int = 0
    has_payload: bool = False
    """True while the raw answer (with CI secrets) is still kept for delivery."""
    reason: str = ""
    host: str | None = None
    """Where its machine is."""


@dataclass(frozen=True, slots=True)
class SizedRunner:
    """A runner that was made in GitLab for one sized tag, and the pool that asks with its token."""

    pool: str
    gitlab: str
    template: str
    """The pool that is its template."""
    tag: str
    project_id: int | None
    """The project whose runner it is; None for one of a group or of the whole instance."""
    vcpu: int
    memory_mib: int
    runner_id: int
    """GitLab's id of the runner."""
    token: str = field(repr=False)
    created_at: float
    used_at: float
    """When it last was seen to have a job."""
    removing: bool = False
    """It takes no more jobs, and is deleted in GitLab when its last machine is gone."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One thing that happened. Rows are only added, and pruned by age."""

    seq: int
    at: float
    subject_kind: str
    """`machine`, `job`, `pool`, `host`, `lease`, ... : what `subject` names."""
    subject: str
    event: str
    """`moved`, `taken`, ...; for a side effect the name of the action."""
    from_state: str | None
    to_state: str | None
    """The new state; for a side effect `intended` or `done`."""
    detail: Mapping[str, Any]
    epoch: int | None
    """The leader's epoch, or None for an observer (the gate)."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows `prune` has removed."""

    journal: int
    jobs: int
    machines: int
