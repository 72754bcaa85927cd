"""The routes that tell: jobs, machines, hosts, pools, journal."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from firerunner.ledger import LIVE_MACHINES, OPEN_JOBS
from firerunner.machines.spec import MACHINE_ID
from firerunner.web.models import Entry, Host, Job, Journal, Machine, Page, Pool
from firerunner.web.operations import Operations
from firerunner.web.refusals import Refusal

MOST = 1000
"""Items on a page."""
HIGHEST = 2**63 - 1
"""What databases count to."""
MACHINE_ID_PATTERN = f"^{MACHINE_ID.pattern}$"

MachineId = Annotated[str, Path(pattern=MACHINE_ID_PATTERN)]
JobId = Annotated[int, Path(ge=0, le=HIGHEST)]


class _Asked(BaseModel):
    """A mistyped parameter would be an answer to another question."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(200, ge=1, le=MOST, description="At most so many.")


class _WhichJobs(_Asked):
    which: Literal["open", "all"] = Field("open", description="Only open ones, or ended ones too.")
    before: int | None = Field(None, ge=0, le=HIGHEST, description="Only jobs of lower numbers.")


class _WhichMachines(_Asked):
    which: Literal["live", "all"] = Field("live", description="Only live ones, or gone ones too.")
    after: str | None = Field(None, pattern=MACHINE_ID_PATTERN, description="Only ids above this one.")


class _WhichEntries(_Asked):
    after: int = Field(0, ge=0, le=HIGHEST, description="Only rows of higher numbers.")
    subject: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Only rows about it: a job's or a machine's id, a host's or a pool's name, ...",
    )


def create_reading(operations: Operations) -> APIRouter:
    """The router."""
    router, ledger = APIRouter(), operations.ledger

    @router.get("/jobs")
    async def jobs(asked: Annotated[_WhichJobs, Query()]) -> Page[Job]:
        """Jobs that GitLab has handed to us, the highest number first."""
        states = OPEN_JOBS if asked.which == "open" else None
        found = await ledger.jobs_page(states, before=asked.before, limit=asked.limit)
        last = str(found[-1].job_id) if len(found) == asked.limit else None
        return Page(items=[Job.model_validate(job) for job in found], next=last)

    @router.get("/jobs/{job_id}")
    async def job(job_id: JobId) -> Job:
        """One job."""
        found = await ledger.job(job_id)
        if found is None:
            raise Refusal(404, "there is no job of that number (any more)")
        return Job.model_validate(found)

    @router.get("/machines")
    async def machines(asked: Annotated[_WhichMachines, Query()]) -> Page[Machine]:
        """Machines, by id."""
        states = LIVE_MACHINES if asked.which == "live" else None
        found = await ledger.machines_page(states, after=asked.after or "", limit=asked.limit)
        last = found[-1].machine_id if len(found) == asked.limit else None
        return Page(items=[Machine.model_validate(machine) for machine in found], next=last)

    @router.get("/machines/{machine_id}")
    async def machine(machine_id: MachineId) -> Machine:
        """One machine."""
        found = await ledger.machine(machine_id)
        if found is None:
            raise Refusal(404, "there is no machine of that id (any more)")
        return Machine.model_validate(found)

    @router.get("/hosts")
    async def hosts() -> list[Host]:
        """All hosts, in the order of the configuration, and what is on them."""
        return await operations.hosts()

    @router.get("/pools")
    async def pools() -> list[Pool]:
        """The pools that may get jobs, those of sized tags too, and why they do not ask."""
        return await operations.pools()

    @router.get("/journal")
    async def journal(asked: Annotated[_WhichEntries, Query()]) -> Journal:
        """What happened, in order. To follow it, ask again with `after` set to the last `next`."""
        found = await ledger.journal(asked.after, asked.subject, asked.limit)
        last = found[-1].seq if found else asked.after
        return Journal(items=[Entry.model_validate(entry) for entry in found], next=last)

    return router
