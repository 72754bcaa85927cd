"""What the API tells of jobs, machines, hosts, pools and the journal. No secret is a field of these."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from firerunner.ledger import HostUse, JobState, MachineState
from firerunner.planning import PoolState

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

    vcpu: Annotated[int, Field(description="Virtual CPUs.")]
    memory_mib: Annotated[int, Field(description="MiB.")]
    disk_mib: Annotated[int, Field(description="MiB.")]


class Job(_Told):
    """A GitLab CI job that GitLab has handed to us."""

    job_id: Annotated[int, Field(description="Ours; GitLab's own, unless another GitLab's job has it.")]
    gitlab: Annotated[str, Field(description="The name of its GitLab in the configuration.")]
    gitlab_job_id: Annotated[int, Field(description="The job's number in GitLab.")]
    pool: Annotated[str, Field(description="The pool that asked for it.")]
    machine_id: Annotated[
        str | None, Field(description="The machine that is meant for it; null while there is none.")
    ]
    state: Annotated[JobState, Field(description="How far it has come here.")]
    state_since: Seconds
    name: Annotated[str, Field(description="Its name in `.gitlab-ci.yml`.")]
    project_id: Annotated[int, Field(description="The project's number in GitLab.")]
    project_path: Annotated[str, Field(description="The project's path in GitLab.")]
    timeout_s: Annotated[int | None, Field(description="GitLab's timeout for it, in seconds.")]
    taken_at: Annotated[Seconds, Field(description="When GitLab handed it over, in Unix seconds.")]
    gitlab_status: Annotated[str | None, Field(description="GitLab's own word, as last seen.")]
    failure_reason: Annotated[str | None, Field(description="GitLab's word for why it failed, as last seen.")]
    first_call_at: Moment
    attempts: Annotated[int, Field(description="How many machines have been meant for it.")]
    trace_bytes: Annotated[int, Field(description="How long its log is, in bytes.")]
    reason: Annotated[str, Field(description="Why it is in this state, where there is something to say.")]


class Machine(_Told):
    """One microVM, for at most one job."""

    machine_id: Annotated[str, Field(description="Also its `system_id` as a runner manager in GitLab.")]
    gitlab: Annotated[str, Field(description="The name of its GitLab in the configuration.")]
    pool: Annotated[str, Field(description="The pool that it works for.")]
    host: Annotated[str, Field(description="Where it runs.")]
    state: Annotated[MachineState, Field(description="How far it has come.")]
    state_since: Seconds
    resources: Annotated[Size, Field(description="What it takes.")]
    image_digest: Annotated[str, Field(description="The image that it was made from.")]
    created_at: Annotated[Seconds, Field(description="When its room was reserved, in Unix seconds.")]
    vmm_started_at: Moment
    booted_at: Moment
    ended_reported_at: Moment
    exit_code: Annotated[int | None, Field(description="The runner's, as the guest says.")]
    room_held: Annotated[bool, Field(description="Whether its resources count against its host.")]
    job_id: Annotated[int | None, Field(description="Its job; null if it has none.")]
    reason: Annotated[str, Field(description="Why it is in this state, where there is something to say.")]


class Host(_Told):
    """Where machines run."""

    name: Annotated[str, Field(description="Its name in the configuration.")]
    driver: Annotated[str, Field(description="`qemu` or `flintlock`.")]
    labels: Annotated[dict[str, str], Field(description="Its labels in the configuration.")]
    use: Annotated[HostUse, Field(description="What an operator said of it.")]
    reason: Annotated[str, Field(description="Why the operator said so.")]
    use_since: Moment
    trouble: Annotated[str | None, Field(description="Why it gets no machines, if it does not work.")]
    machines: Annotated[int, Field(description="Live machines there.")]
    jobs: Annotated[int, Field(description="Machines there that have a job.")]
    used: Annotated[Size, Field(description="What they take.")]
    room: Annotated[Size | None, Field(description="What is given out; null while it is not known.")]


class Pool(_Told):
    """A runner in GitLab, and the machines that work for it."""

    name: Annotated[str, Field(description="Its name in the configuration.")]
    gitlab: Annotated[str, Field(description="The name of its GitLab in the configuration.")]
    image: Annotated[str, Field(description="What its machines boot from.")]
    executor: Annotated[str, Field(description="What runs its jobs in the guest.")]
    resources: Annotated[Size, Field(description="What one machine takes.")]
    limit: Annotated[int, Field(description="At most so many machines.")]
    warm_wished: Annotated[int, Field(description="Machines that are to wait without a job now.")]
    warm: Annotated[int, Field(description="Machines that do.")]
    warm_coming: Annotated[int, Field(description="Machines that are being made for that, or boot.")]
    warm_fewer: Annotated[str | None, Field(description="Why there are fewer, and none comes; else null.")]
    machines: Annotated[int, Field(description="Live machines that work for it.")]
    jobs: Annotated[int, Field(description="Its machines that have a job.")]
    state: Annotated[
        PoolState | None,
        Field(
            description="`asking`; `idle` until its next ask; `limit` and `no_room` keep it from asking; "
            "`homeless`: a job needs another machine first; `blocked`: it may not ask. Null if that is not "
            "known here, as where another controller leads."
        ),
    ]
    silent: Annotated[str | None, Field(description="Why it does not ask GitLab now; null while it does.")]


class Entry(_Told):
    """One row of the journal."""

    seq: Annotated[int, Field(description="Its number.")]
    at: Seconds
    subject_kind: Annotated[str, Field(description="`job`, `machine`, `operator`, …")]
    subject: Annotated[str, Field(description="Which one.")]
    event: Annotated[str, Field(description="What happened.")]
    from_state: Annotated[str | None, Field(description="For a change of state: the one before.")]
    to_state: Annotated[str | None, Field(description="For a change of state: the one after.")]
    detail: Annotated[dict[str, Any], Field(description="What else there is to say, such as `reason`.")]
    epoch: Annotated[int | None, Field(description="Which leadership wrote it.")]


class Page(_Told, Generic[Item]):
    """A part of a list that may be long."""

    items: Annotated[list[Item], Field(description="The part.")]
    next: MoreAfter


class Journal(_Told):
    """Rows of the journal, in order."""

    items: Annotated[list[Entry], Field(description="The rows.")]
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

    act: Annotated[str, Field(description="What was done.")]
    target: Annotated[str, Field(description="To which host, machine or job.")]
    journal: Annotated[int, Field(description="The number of its row in the journal.")]
