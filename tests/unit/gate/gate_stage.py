"""Given: the faithful fake GitLab, our side of it, a gate over a real ledger, and no machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from gate_given import A, Guest, machine_in, serving, usual_facts

from firerunner.fakes.gitlab import FakeGitLab, Job, Project
from firerunner.gate import Gate, GateEvent, GuestFacts, create_gate
from firerunner.gitlab import AskedJob, JobClient, RunnerClient, RunnersClient, new_http, parse_answer
from firerunner.ledger import Keyring, Ledger, MachineRecord, MachineState, NewJob

CI = """
stages: [build, test]
build: {stage: build, script: [make], artifacts: {paths: [out]}}
test: {stage: test, script: [check]}
"""
FEATURES = (
    "variables artifacts upload_multiple_artifacts upload_raw_artifacts multi_build_steps return_exit_code "
    "cancel_gracefully cancelable two_phase_job_commit refspecs masking raw_variables trace_checksum "
    "trace_size trace_reset"
)
INFO: dict[str, Any] = {
    "name": "gitlab-runner",
    "version": "19.4.0",
    "executor": "shell",
    "features": dict.fromkeys(FEATURES.split(), True),
}


@dataclass
class Stage:
    """GitLab, FireRunner's GitLab side and gate, and no machine but the test itself."""

    gitlab: FakeGitLab
    token: str
    ledger: Ledger
    gate: Gate
    asks: RunnerClient
    jobs: JobClient
    runners: RunnersClient
    http: httpx.AsyncClient
    events: list[GateEvent]
    gate_url: str
    facts: dict[str, Any] = field(default_factory=dict)
    """What differs from the usual facts."""

    def facts_of(self, machine: MachineRecord) -> GuestFacts:
        return replace(usual_facts(machine), **self.facts)

    async def pipeline(self, ci: str = CI, **files: str) -> Project:
        project = await self.gitlab.add_project("grp/app", {".gitlab-ci.yml": ci, **files})
        await self.gitlab.run_pipeline(project)
        return project

    async def take(self, machine_id: str = A) -> Job:
        """Ask, and write the job down for a booting machine."""
        await machine_in(self.ledger, MachineState.BOOTING, machine_id)
        await self.ledger.keep_answer(machine_id, await self.asked(machine_id))
        [(_, raw)] = await self.ledger.unread_answers()
        answer = parse_answer(raw)
        await self.ledger.take(
            machine_id,
            NewJob(
                answer.id,
                answer.token,
                answer.job_info.name,
                answer.job_info.project_id or 0,
                answer.project_path,
                answer.runner_info.timeout,
            ),
        )
        return self.gitlab.world.jobs[answer.id]

    async def boot_with_job(self, machine_id: str = A) -> tuple[Guest, Job, str]:
        """Ask, write down, boot."""
        job = await self.take(machine_id)
        guest = Guest(self.http, machine_id)
        assert (await guest.booted()).status_code == 200
        return guest, job, job.token

    async def asked(self, machine_id: str) -> bytes:
        got = await self.asks.ask(self.token, machine_id, INFO)
        assert isinstance(got, AskedJob)
        assert got.complete
        return got.raw


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    ledger = await Ledger.open(
        f"sqlite:///{folder / 'ledger.db'}", Keyring.load_or_create(folder / "keys"), lambda: 1000.0
    )
    events: list[GateEvent] = []
    stages: list[Stage] = []
    async with FakeGitLab(folder / "gitlab") as gitlab, new_http() as http:
        jobs = JobClient(gitlab.url, http)
        gate = create_gate(
            ledger=ledger,
            gitlab=lambda name: jobs,
            facts=lambda machine: stages[0].facts_of(machine),  # noqa: PLW0108 (it is made later)
            notify=events.append,
        )
        gate.open()
        async with serving(gate) as url, httpx.AsyncClient(base_url=url, trust_env=False) as guests:
            stage = Stage(
                gitlab,
                gitlab.add_runner(),
                ledger,
                gate,
                RunnerClient(gitlab.url, http),
                jobs,
                RunnersClient(gitlab.url, http),
                guests,
                events,
                url,
            )
            stages.append(stage)
            yield stage
    await ledger.aclose()
