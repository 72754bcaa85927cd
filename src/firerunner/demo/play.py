"""The play itself: start the pipeline, do the harm, wait for every end, look at what is left."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import secrets
import signal
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

from firerunner.demo.leftovers import Leftovers, files_of, network_names, processes_of, vmm_of
from firerunner.demo.sample import EXPECTED, ORPHAN_ON_HOSTS_S, GuestFacts, read_trace
from firerunner.demo.stage import Stage
from firerunner.demo.verdict import Observed, Outcome, Seconds
from firerunner.demo.watch import Row, row
from firerunner.fakes.gitlab.model import Job, Pipeline
from firerunner.ledger import LIVE_MACHINES, JobState, MachineState

JOBS_S = 600.0
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that a run has shown."""

    nonce: str
    outcomes: tuple[Outcome, ...]
    observed: Observed
    leftovers: Leftovers
    service_log: str
    """The end of what the service has said."""


class Play:
    """One run on one stage. `show` is called about four times a second with the jobs as they stand."""

    def __init__(self, stage: Stage, show: Callable[[list[Row]], None]) -> None:
        self._stage = stage
        self._show = show
        self._nonce = secrets.token_hex(8)
        self._canceled_to_gone_s: float | None = None
        self._killed_to_failed_s: float | None = None
        self._slow_is_gone = asyncio.Event()
        self._lost: frozenset[str] = frozenset()
        self._network_before = network_names()

    async def run(self) -> Result:
        """Play it. Raises TimeoutError if the jobs do not end."""
        gitlab = self._stage.gitlab
        gitlab.drop_hooks_for("unhooked")
        variables = {"NONCE": self._nonce}
        if self._stage.hosts:
            variables["ORPHAN_S"] = str(ORPHAN_ON_HOSTS_S)
        pipeline = await gitlab.run_pipeline(self._stage.project, variables=variables)
        harm = self._lose_host if self._stage.hosts else self._kill_orphan
        acts = [asyncio.create_task(act(pipeline)) for act in (self._watch, self._cancel_slow, harm)]
        try:
            await gitlab.wait_for(lambda: self._all_ended(pipeline), JOBS_S)
            await asyncio.wait(acts[1:], timeout=30)
            await self._wait_until_quiet()
            outcomes = tuple([await self._outcome(job) for job in gitlab.jobs(pipeline)])
        finally:
            for act in acts:
                act.cancel()
            await asyncio.gather(*acts, return_exceptions=True)
        observed = Observed(
            artifact=self._artifact(pipeline),
            lost=self._lost,
            canceled_to_gone_s=self._canceled_to_gone_s,
            killed_to_failed_s=self._killed_to_failed_s,
            unhooked_hooks=sum(
                delivery.subject == "unhooked" and delivery.outcome == "sent"
                for delivery in gitlab.hooks.deliveries
            ),
        )
        await self._stage.service.finish()  # before the leftovers are counted
        return Result(
            self._nonce, outcomes, observed, await self._leftovers(), self._stage.service.log_tail(4000)
        )

    def _all_ended(self, pipeline: Pipeline) -> bool:
        jobs = self._stage.gitlab.jobs(pipeline)
        runs = sum(len(expected.ends) for expected in EXPECTED.values())
        enough = len(jobs) >= runs or pipeline.finished_at is not None
        return enough and all(job.finished and not _comes_again(job) for job in jobs)

    async def _watch(self, pipeline: Pipeline) -> None:
        while True:
            self._show(await self._rows(pipeline))
            await asyncio.sleep(POLL_S)

    async def _rows(self, pipeline: Pipeline) -> list[Row]:
        records = {record.job_id: record for record in await self._stage.ledger.jobs(frozenset(JobState))}
        machines = {
            machine.machine_id: machine
            for machine in await self._stage.ledger.machines(frozenset(MachineState))
        }
        rows = []
        for job in self._stage.gitlab.jobs(pipeline):
            record = records.get(job.id)
            machine = machines.get(record.machine_id or "") if record else None
            rows.append(row(job, record, machine, time.time()))
        return rows

    async def _saying(self, pipeline: Pipeline, name: str, said: bytes) -> Job:
        """The job of that name that says this: one whose hand-over was lost never does, and is run again."""
        gitlab = self._stage.gitlab

        def look() -> Job | None:
            return next((j for j in gitlab.jobs(pipeline) if j.name == name and said in j.trace), None)

        found = await gitlab.wait_for(look, JOBS_S)
        assert found is not None  # noqa: S101  (waited for until it is)
        return found

    async def _cancel_slow(self, pipeline: Pipeline) -> None:
        gitlab = self._stage.gitlab
        job = await self._saying(pipeline, "slow", b"still here after 2 s")
        gitlab.cancel(job)
        await gitlab.wait_for_job(job, "canceled", timeout_s=JOBS_S)
        canceled_at = time.monotonic()
        machine_id = await self._machine_of(job)
        while machine_id and await self._is_live(machine_id):
            await asyncio.sleep(POLL_S)
        self._canceled_to_gone_s = time.monotonic() - canceled_at
        self._slow_is_gone.set()

    async def _kill_orphan(self, pipeline: Pipeline) -> None:
        gitlab = self._stage.gitlab
        job = await self._saying(pipeline, "orphan", b"working, second 2")
        machine_id = await self._machine_of(job)
        pid = vmm_of(machine_id) if machine_id else None
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        killed_at = time.monotonic()
        await gitlab.wait_for_job(job, "failed", timeout_s=JOBS_S)
        self._killed_to_failed_s = time.monotonic() - killed_at

    async def _lose_host(self, pipeline: Pipeline) -> None:
        """The orphan's host loses its power in mid-job, with all that is on it, and comes back later."""
        gitlab = self._stage.gitlab
        job = await self._saying(pipeline, "orphan", b"working, second 2")
        await self._slow_is_gone.wait()
        machine = await self._stage.ledger.machine(await self._machine_of(job) or "")
        if machine is None or self._stage.hosts is None:
            return
        host = self._stage.hosts.by_name[machine.host]
        there = [m for m in await self._stage.ledger.machines() if m.host == machine.host]
        self._lost = frozenset(each.machine_id for each in there)
        await host.cut_power()
        lost_at = time.monotonic()
        await gitlab.wait_for_job(job, "failed", timeout_s=JOBS_S)
        self._killed_to_failed_s = time.monotonic() - lost_at
        await host.restore()

    async def _machine_of(self, job: Job) -> str | None:
        record = await self._stage.ledger.job(job.id)
        return record.machine_id if record else None

    async def _is_live(self, machine_id: str) -> bool:
        machine = await self._stage.ledger.machine(machine_id)
        return machine is not None and machine.state in LIVE_MACHINES

    async def _wait_until_quiet(self) -> None:
        """Until no machine has a job: what is left is at most a reserved id for the next ask."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            machines = await self._stage.ledger.machines()
            if all(machine.job_id is None for machine in machines):
                return
            await asyncio.sleep(POLL_S)

    async def _outcome(self, job: Job) -> Outcome:
        trace = self._stage.gitlab.trace(job)
        queued, finished = job.at("pending"), job.finished_at
        return Outcome(
            name=job.name,
            id=job.id,
            status=job.status.value,
            failure_reason=job.failure_reason,
            machine=await self._machine_of(job),
            facts=read_trace(trace) if trace else GuestFacts(),
            trace=trace,
            handed_out=job.handed_out,
            seconds=Seconds(
                pending_to_running=job.pending_to_running_s,
                running_to_first_output=job.running_to_first_output_s,
                total=finished - queued if finished is not None and queued is not None else None,
            ),
        )

    def _artifact(self, pipeline: Pipeline) -> str | None:
        try:
            archive = self._stage.gitlab.artifact(self._stage.gitlab.job("build", pipeline))
            with zipfile.ZipFile(io.BytesIO(archive)) as files:
                return files.read("words.txt").decode()
        except (KeyError, LookupError, zipfile.BadZipFile):
            return None

    async def _leftovers(self) -> Leftovers:
        stage = self._stage
        return Leftovers(
            machines=len(await stage.ledger.machines()),
            processes=len(processes_of(stage.directory)),
            managers=len(stage.gitlab.managers()),
            files=len(files_of(stage.settings.state_dir)) + len(stage.hosts.files() if stage.hosts else ()),
            network=len(network_names() - self._network_before),
        )


def _comes_again(job: Job) -> bool:
    """Cancelled because its hand-over was lost: the next of its name is about to be made."""
    return job.status == "canceled" and not job.trace and not job.retried
