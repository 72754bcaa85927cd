"""What the API tells of jobs, machines, hosts, pools and the journal. No secret is a field of these."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from firerunner.ledger import HostUse, JobState, MachineState

Item = TypeVar("Item")
Seconds = Annotated[float, Field(description="Unix seconds.")]
Moment = Annotated[float | None, Field(description="Unix seconds; null if that has not happened.")]
MoreAfter = Annotated[
    str | None, Field(description="Give this as `before` or `after` for the next page; null on the last one.")
]


class _Told(BaseModel):
    """Only the fields named here are taken from a record of the ledger."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Size(_Told):
    """Room on a host."""

    vcpu: int
    memory_mib: int
    disk_mib: int


class Job(_Told):
    """A GitLab CI job that GitLab has handed to us."""

    job_id: Annotated[int, Field(description="Ours; GitLab's own, unless another GitLab's job has it.")]
    gitlab: str
    gitlab_job_id: int
    pool: str
    machine_id: str | None
    state: JobState
    state_since: Seconds
    name: str
    project_id: int
    project_path: str
    timeout_s: int | None
    taken_at: Seconds
    gitlab_status: Annotated[str | None, Field(description="GitLab's own word, as last seen.")]
    failure_reason: str | None
    first_call_at: Moment
    attempts: Annotated[int, Field(description="How many machines have been meant for it.")]
    trace_bytes: int
    reason: str


class Machine(_Told):
    """One microVM, for at most one job."""

    machine_id: str
    gitlab: str
    pool: str
    host: str
    state: MachineState
    state_since: Seconds
    resources: Size
    image_digest: str
    created_at: Seconds
    vmm_started_at: Moment
    booted_at: Moment
    ended_reported_at: Moment
    exit_code: Annotated[int | None, Field(description="The runner's, as the guest says.")]
    room_held: Annotated[bool, Field(description="Whether its resources count against its host.")]
    job_id: int | None
    reason: str


class Host(_Told):
    """Where machines run."""

    name: str
    driver: str
    labels: dict[str, str]
    use: Annotated[HostUse, Field(description="What an operator said of it.")]
    reason: Annotated[str, Field(description="Why the operator said so.")]
    use_since: Moment
    trouble: Annotated[str | None, Field(description="Why it gets no machines, if it does not work.")]
    machines: int
    jobs: Annotated[int, Field(description="Machines there that have a job.")]
    used: Size
    room: Annotated[Size | None, Field(description="What is given out; null while it is not known.")]


class Pool(_Told):
    """A runner in GitLab, and the machines that work for it."""

    name: str
    gitlab: str
    image: str
    executor: str
    resources: Size
    limit: int
    warm_wished: Annotated[int, Field(description="Machines that are to wait without a job now.")]
    warm: Annotated[int, Field(description="Machines that do.")]
    warm_coming: Annotated[int, Field(description="Machines that are being made for that, or boot.")]
    warm_fewer: Annotated[str | None, Field(description="Why there are fewer, and none comes; else null.")]
    machines: int
    jobs: Annotated[int, Field(description="Its machines that have a job.")]
    silent: Annotated[str | None, Field(description="Why it does not ask GitLab now; null while it does.")]


class Entry(_Told):
    """One row of the journal."""

    seq: int
    at: Seconds
    subject_kind: str
    subject: str
    event: str
    from_state: str | None
    to_state: str | None
    detail: dict[str, Any]
    epoch: int | None


class Page(_Told, Generic[Item]):
    """A part of a list that may be long."""

    items: list[Item]
    next: MoreAfter


class Journal(_Told):
    """Rows of the journal, in order."""

    items: list[Entry]
    next: Annotated[int, Field(description="Give this as `after`, now or later, for what comes after these.")]


class Why(BaseModel):
    """What goes with every act."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[
        str,
        Field(
            description="For whoever reads the journal. One line.",
            min_length=1,
            max_length=500,
            pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$",
        ),
    ]


class Script(Why):
    """What is to be run on a held machine, and why."""

    script: Annotated[str, Field(description="For /bin/sh there, as root.", min_length=1, max_length=4000)]


class Seen(_Told):
    """What it printed. The machine is the job's: what answers may be what the job has left behind."""

    exit_code: Annotated[int | None, Field(description="Null if nothing came back in time.")]
    output: Annotated[str, Field(description="Standard output and error together, at most 500 kB.")]
    journal: Annotated[int, Field(description="The number of its row in the journal.")]


class Done(_Told):
    """An act that was written into the journal and then done."""

    act: str
    target: str
    journal: Annotated[int, Field(description="The number of its row in the journal.")]
