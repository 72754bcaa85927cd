"""One job from GitLab's queue to its end: real ask, real ledger, real gate, before the faithful fake."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from gate_given import A, Guest
from gate_stage import INFO, Stage, staged

from firerunner.fakes.gitlab import Job
from firerunner.gate import JobFinal, JobGone
from firerunner.gitlab import AskedJob, AskedNothing, ManagerRemoval, Refused, salvage
from firerunner.gitlab.runners import LEGACY_SYSTEM_ID
from firerunner.ledger import JobState

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stage(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as stage:
        await stage.pipeline()
        yield stage


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
