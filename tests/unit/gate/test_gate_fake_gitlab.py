"""One job from GitLab's queue to its end: real ask, real ledger, real gate, before the faithful fake."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from gate_given import A, Guest, machine_in, serving, usual_facts

from firerunner.fakes.gitlab import FakeGitLab, Job
from firerunner.gate import Gate, GateEvent, JobFinal, JobGone, create_gate
from firerunner.gitlab import (
    AskedJob,
    AskedNothing,
    JobClient,
    ManagerRemoval,
    Refused,
    RunnerClient,
    RunnersClient,
    new_http,
    parse_answer,
)
from firerunner.gitlab.runners import LEGACY_SYSTEM_ID
from firerunner.ledger import JobState, Keyring, Ledger, MachineState, NewJob

pytestmark = pytest.mark.anyio

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

    async def boot_with_job(self, machine_id: str = A) -> tuple[Guest, Job, str]:
        """Ask, write down, boot, deliver."""
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
        guest = Guest(self.http, machine_id)
        assert (await guest.booted()).status_code == 200
        return guest, self.gitlab.world.jobs[answer.id], answer.token

    async def asked(self, machine_id: str) -> bytes:
        got = await self.asks.ask(self.token, machine_id, INFO)
        assert isinstance(got, AskedJob)
        assert got.complete
        return got.raw


@pytest.fixture
async def stage(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Stage]:
    ledger = await Ledger.open(
        f"sqlite:///{tmp_path / 'ledger.db'}", Keyring.load_or_create(tmp_path / "keys"), lambda: 1000.0
    )
    events: list[GateEvent] = []
    async with FakeGitLab(tmp_path / "gitlab") as gitlab, new_http() as http:
        project = await gitlab.add_project("grp/app", {".gitlab-ci.yml": CI})
        await gitlab.run_pipeline(project)
        jobs = JobClient(gitlab.url, http)
        gate = create_gate(ledger=ledger, gitlab=jobs, facts=usual_facts, notify=events.append)
        gate.open()
        async with serving(gate) as url, httpx.AsyncClient(base_url=url, trust_env=False) as guests:
            yield Stage(
                gitlab,
                gitlab.add_runner(),
                ledger,
                gate,
                RunnerClient(gitlab.url, http),
                jobs,
                RunnersClient(gitlab.url, http),
                guests,
                events,
            )
    await ledger.aclose()


def zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, content)
    return packed.getvalue()


async def upload(guest: Guest, job: Job, token: str, content: bytes) -> httpx.Response:
    return await guest.http.post(
        guest.path(f"api/v4/jobs/{job.id}/artifacts?artifact_format=zip&artifact_type=archive"),
        headers={"JOB-TOKEN": token},
        files={"file": ("artifacts.zip", content, "application/octet-stream")},
    )


async def test_a_job_and_the_artifact_that_another_one_needs(stage: Stage) -> None:
    guest, job, token = await stage.boot_with_job()
    asked = await guest.ask()
    artifact = zipped("out", b"nonce-1")
    log = b"hello\n"

    assert asked.json()["id"] == job.id
    assert (await guest.update("running", job.id, token)).headers["job-status"] == "running"
    assert (await guest.trace(log, 0, job.id, token)).headers["range"] == f"0-{len(log)}"
    assert (await guest.trace(b"again", 3, job.id, token)).status_code == 416
    assert (await upload(guest, job, token, artifact)).status_code == 201
    output = {"checksum": f"crc32:{zlib.crc32(log):08x}", "bytesize": len(log)}
    final = await guest.update("success", job.id, token, output=output, exit_code=0)

    assert final.status_code == 200
    assert (job.status.value, stage.gitlab.trace(job), job.trace_checksum_ok) == ("success", "hello\n", True)
    assert stage.events[-1] == JobFinal(job.id, A, "success", None, 0)
    await guest.ended()

    other, second, second_token = await stage.boot_with_job("fr-bbbbbbbbbbbb")
    answer = (await other.ask()).json()
    await other.update("running", second.id, second_token)
    [dependency] = answer["dependencies"]
    downloaded = await other.download(dependency["id"], dependency["token"], "?direct_download=true")

    assert (downloaded.status_code, downloaded.content) == (200, artifact)
    assert (await other.update("running", job.id, second_token)).status_code == 403


async def test_a_job_cancelled_while_it_runs_ends_as_canceled(stage: Stage) -> None:
    guest, job, token = await stage.boot_with_job()
    await guest.ask()
    await guest.update("running", job.id, token)
    stage.gitlab.cancel(job)

    told = await guest.trace(b"x", 0, job.id, token)
    final = await guest.update("failed", job.id, token, failure_reason="unknown_failure")

    assert told.headers["job-status"] == "canceling"
    assert final.status_code == 200
    assert job.status.value == "canceled"
    assert stage.events[-1] == JobFinal(job.id, A, "canceled", None, None)


async def test_a_job_cancelled_while_its_machine_boots_never_runs(stage: Stage) -> None:
    guest, job, _ = await stage.boot_with_job()
    stage.gitlab.cancel(job)

    response = await guest.ask()

    record = await stage.ledger.job(job.id)
    assert response.status_code == 204
    assert job.status.value == "canceled"
    assert record is not None
    assert (record.state, record.gitlab_status) == (JobState.ENDED, "canceled")


async def test_a_job_force_cancelled_while_its_machine_boots_is_gone(stage: Stage) -> None:
    guest, job, _ = await stage.boot_with_job()
    stage.gitlab.cancel(job)
    stage.gitlab.cancel(job, force=True)

    response = await guest.ask()

    assert response.status_code == 204
    assert stage.events[-1] == JobGone(job.id, A, 403, "canceled")


async def test_a_final_update_whose_answer_was_lost_still_ends_the_job(stage: Stage) -> None:
    guest, job, token = await stage.boot_with_job()
    await guest.ask()
    await guest.update("running", job.id, token)
    stage.gitlab.misbehave(f"/api/v4/jobs/{job.id}", method="PUT", times=1, lose_answer=True)

    lost = await guest.update("success", job.id, token)
    again = await guest.update("success", job.id, token)

    assert (lost.status_code, again.status_code) == (503, 403)
    record = await stage.ledger.job(job.id)
    assert record is not None
    assert (record.state, record.gitlab_status) == (JobState.ENDED, "success")
    assert stage.events[-1] == JobFinal(job.id, A, "success")


async def test_a_dead_machines_job_is_failed_and_its_author_told_why(stage: Stage) -> None:
    guest, job, token = await stage.boot_with_job()
    await guest.ask()
    await guest.trace(b"working\n", 0, job.id, token)

    told = await stage.jobs.append_trace(job.id, token, None, "ERROR: FireRunner: the machine died\n")
    failed = await stage.jobs.fail(job.id, token)

    assert told
    assert failed.accepted
    assert stage.gitlab.trace(job) == "working\nERROR: FireRunner: the machine died\n"
    assert (job.status.value, job.failure_reason) == ("failed", "runner_system_failure")
    assert (await stage.jobs.fail(job.id, token)).gone


async def test_an_ask_makes_a_manager_record_that_is_deleted_afterwards(stage: Stage) -> None:
    await stage.asked(A)

    nothing = await stage.asks.ask(stage.token, A, INFO)

    assert isinstance(nothing, AskedNothing)
    assert nothing.last_update
    assert [one.system_id for one in stage.gitlab.managers()] == [A]
    assert await stage.runners.delete_manager(stage.token, A) is ManagerRemoval.DELETED
    assert await stage.runners.delete_manager(stage.token, A) is ManagerRemoval.ABSENT
    assert await stage.runners.delete_manager("glrt-revoked", A) is ManagerRemoval.REFUSED


async def test_verify_without_a_system_id_leaves_the_legacy_record(stage: Stage) -> None:
    await stage.runners.verify(stage.token)

    assert [one.system_id for one in stage.gitlab.managers()] == [LEGACY_SYSTEM_ID]
    assert await stage.runners.delete_manager(stage.token, LEGACY_SYSTEM_ID) is ManagerRemoval.DELETED


async def test_a_revoked_token_is_refused(stage: Stage) -> None:
    stage.gitlab.delete_runner(stage.token)

    assert isinstance(await stage.asks.ask(stage.token, A, INFO), Refused)


async def test_a_cut_answer_still_lets_the_job_be_failed(stage: Stage) -> None:
    from firerunner.gitlab import salvage

    stage.gitlab.misbehave("/api/v4/jobs/request", times=1, cut_after_bytes=120)

    got = await stage.asks.ask(stage.token, A, INFO)

    assert isinstance(got, AskedJob)
    assert not got.complete
    saved = salvage(got.raw)
    assert saved is not None
    assert (await stage.jobs.fail(*saved)).accepted
    assert stage.gitlab.world.jobs[saved[0]].status.value == "failed"
    with pytest.raises(json.JSONDecodeError):
        json.loads(got.raw)
