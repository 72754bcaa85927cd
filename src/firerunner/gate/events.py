"""What the gate has seen and written down, told to control so that it need not look for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GuestBooted:
    """PID 1 has said `booted`; the machine is `waiting`."""

    machine_id: str


@dataclass(frozen=True, slots=True)
class GuestBootedAgain:
    """PID 1 says `booted` with a credential that is spent: the machine's VMM had ended and was started again
    (Flintlock does so), or the answer to its first word was lost."""

    machine_id: str


@dataclass(frozen=True, slots=True)
class GuestAsked:
    """The runner in the guest asks for its job, and has been found to be who it says."""

    machine_id: str


@dataclass(frozen=True, slots=True)
class JobDelivered:
    """The job's answer is on its way to the guest; the job is `delivered`, the machine `busy`."""

    job_id: int
    machine_id: str


@dataclass(frozen=True, slots=True)
class JobSpoke:
    """The first job call has come; the job is `running` and the runner keeps it alive itself."""

    job_id: int
    machine_id: str


@dataclass(frozen=True, slots=True)
class JobFinal:
    """GitLab has accepted the final update, now or before; the job is `ended`."""

    job_id: int
    machine_id: str
    status: str
    """GitLab's word: `success`, `failed` or `canceled`."""
    failure_reason: str | None = None
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class JobGone:
    """GitLab says that the job is over or not ours. The gate writes no transition for it: control does.

    Told once for each job and process.
    """

    job_id: int
    machine_id: str
    code: int
    """HTTP status of GitLab's reply."""
    job_status: str | None = None
    """`Job-Status` of that reply: `canceled` or `failed`, if that is what made it gone."""


@dataclass(frozen=True, slots=True)
class JobDropped:
    """The runner asks again although it has spoken about its job and not ended it: it has let it go.

    gitlab-runner does so when the first `PUT state=running` fails on its side (commands/single.go).
    """

    job_id: int
    machine_id: str


@dataclass(frozen=True, slots=True)
class GuestEnded:
    """PID 1 has said `ended` and is about to reboot."""

    machine_id: str
    exit_code: int | None


GateEvent = (
    GuestBooted
    | GuestBootedAgain
    | GuestAsked
    | JobDelivered
    | JobSpoke
    | JobDropped
    | JobFinal
    | JobGone
    | GuestEnded
)
