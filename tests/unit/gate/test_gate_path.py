"""The honest way of one job through the gate."""

from __future__ import annotations

import io
import tarfile
import tomllib

import pytest
from gate_given import ANSWER, DEP, DEP_TOKEN, JOB, TOKEN, A, World, credential, machine_in

from firerunner.gate import (
    GuestAsked,
    GuestBooted,
    GuestBootedAgain,
    GuestEnded,
    JobDelivered,
    JobFinal,
    JobSpoke,
)
from firerunner.ledger import JobState, MachineState

pytestmark = pytest.mark.anyio


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        files = [entry for entry in tar if entry.isfile()]
        assert {entry.mode for entry in files} == {0o600}
        return {entry.name: tar.extractfile(entry).read() for entry in files}  # type: ignore[union-attr]


async def test_a_booting_guest_gets_its_files_once(world: World) -> None:
    await machine_in(world.ledger, MachineState.BOOTING)

    response = await world.guest().booted()

    assert response.status_code == 200
    files = unpacked(response.content)
    config = tomllib.loads(files["run/firerunner/config.toml"].decode())
    assert config["concurrent"] == 1
    assert config["runners"] == [
        {
            "executor": "shell",
            "shell": "bash",
            "builds_dir": "/builds",
            "cache_dir": "/cache",
            "name": "firerunner",
            "url": f"http://10.0.2.2/m/{A}",
            "token": credential(A),
            "clone_url": "http://gitlab.test:8080",
        }
    ]
    assert files["run/firerunner/hosts"] == b"10.0.2.2\tgitlab.test\n"
    assert files["run/firerunner/epoch"] == b"1000\n"
    assert files["run/firerunner/.runner_system_id"] == b"r_aaaaaaaaaaaa"
    machine = await world.ledger.machine(A)
    assert machine is not None
    assert (machine.state, machine.booted_at) == (MachineState.WAITING, 1000.0)
    assert world.events == [GuestBooted(A)]
    assert (await world.guest().booted()).status_code == 410
    assert world.events == [GuestBooted(A), GuestBootedAgain(A)]


async def test_a_guest_may_be_faster_than_its_driver(world: World) -> None:
    await machine_in(world.ledger, MachineState.CREATING)

    response = await world.guest().booted()

    machine = await world.ledger.machine(A)
    assert response.status_code == 200
    assert machine is not None
    assert machine.state is MachineState.WAITING


async def test_a_job_passes_from_ask_to_end(world: World) -> None:
    guest = await world.assigned()

    asked = await guest.ask()

    assert (asked.status_code, asked.headers["content-type"], asked.content) == (
        201,
        "application/json",
        ANSWER,
    )
    [confirmed] = world.gitlab.said("PUT", f"jobs/{JOB}")
    assert b'"state":"running"' in confirmed.body
    assert confirmed.headers["job-token"] == TOKEN
    assert world.events == [GuestAsked(A), JobDelivered(JOB, A)]
    machine = await world.ledger.machine(A)
    assert machine is not None
    assert machine.state is MachineState.BUSY

    first = await guest.update("running")

    assert first.headers["x-gitlab-trace-update-interval"] == "3"
    assert first.headers["job-status"] == "running"
    job = await world.ledger.job(JOB)
    assert job is not None
    assert (job.state, job.has_payload, job.first_call_at) == (JobState.RUNNING, False, 1000.0)
    assert world.events[2:] == [JobSpoke(JOB, A)]

    traced = await guest.trace(b"hello")

    assert (traced.status_code, traced.headers["range"]) == (202, "0-5")
    [patch] = world.gitlab.said("PATCH", f"jobs/{JOB}/trace")
    assert (patch.body, patch.headers["content-range"], patch.query) == (b"hello", "0-4", "debug_trace=false")
    assert patch.headers["x-request-id"] == "req-1"

    world.gitlab.on("PUT", f"jobs/{JOB}", 200, Job_Status="success")
    final = await guest.update("success", exit_code=0, output={"checksum": "crc32:0", "bytesize": 5})

    assert final.status_code == 200
    job = await world.ledger.job(JOB)
    assert job is not None
    assert (job.state, job.gitlab_status, job.trace_bytes) == (JobState.ENDED, "success", 5)
    assert world.events[3:] == [JobFinal(JOB, A, "success", None, 0)]

    ended = await guest.ended("exit_code=0\n")

    machine = await world.ledger.machine(A)
    assert ended.status_code == 204
    assert machine is not None
    assert (machine.exit_code, machine.ended_reported_at) == (0, 1000.0)
    assert world.events[4:] == [GuestEnded(A, 0)]
    assert world.lies() == []


async def test_a_failed_job_ends_with_its_reason_and_exit_code(world: World) -> None:
    guest = await world.running()
    world.gitlab.on("PUT", f"jobs/{JOB}", 200, Job_Status="failed")

    await guest.update("failed", failure_reason="script_failure", exit_code=3)

    assert world.events == [JobFinal(JOB, A, "failed", "script_failure", 3)]
    job = await world.ledger.job(JOB)
    assert job is not None
    assert (job.state, job.gitlab_status, job.failure_reason) == (JobState.ENDED, "failed", "script_failure")


async def test_a_job_that_was_being_cancelled_ends_as_canceled(world: World) -> None:
    guest = await world.running()
    world.gitlab.on("PATCH", f"jobs/{JOB}/trace", 202, b"", Job_Status="canceling", Range="0-5")
    await guest.trace()
    world.gitlab.on("PUT", f"jobs/{JOB}", 200)

    await guest.update("failed", failure_reason="unknown_failure")

    assert world.events == [JobFinal(JOB, A, "canceled", None, None)]


async def test_202_to_a_final_update_is_passed_on_and_is_not_the_end(world: World) -> None:
    guest = await world.running()
    world.gitlab.on("PUT", f"jobs/{JOB}", 202, X_GitLab_Trace_Update_Interval="7")

    response = await guest.update("success")

    assert (response.status_code, response.headers["x-gitlab-trace-update-interval"]) == (202, "7")
    job = await world.ledger.job(JOB)
    assert job is not None
    assert job.state is JobState.RUNNING
    assert world.events == []


async def test_a_range_mismatch_reaches_the_runner_unchanged(world: World) -> None:
    guest = await world.running()
    world.gitlab.on("PATCH", f"jobs/{JOB}/trace", 416, Range="0-17")

    response = await guest.trace(offset=3)

    assert (response.status_code, response.headers["range"]) == (416, "0-17")


async def test_artifacts_of_a_dependency_come_with_the_token_given_for_it(world: World) -> None:
    guest = await world.running()
    world.gitlab.on("GET", f"jobs/{DEP}/artifacts", 200, b"zipped", Content_Type="application/zip")

    response = await guest.download(query="?direct_download=true")

    assert (response.status_code, response.content) == (200, b"zipped")
    assert response.headers["content-type"] == "application/zip"
    [heard] = world.gitlab.said("GET", f"jobs/{DEP}/artifacts")
    assert (heard.headers["job-token"], heard.query) == (DEP_TOKEN, "")
