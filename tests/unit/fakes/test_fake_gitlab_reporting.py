"""Job updates, traces and cancels on the wire: statuses, headers, ranges."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from fake_gitlab_wire import ONE_JOB, Wire

from firerunner.fakes.gitlab import FakeGitLab, HeldClock
from firerunner.fakes.gitlab.runner_api import final_backoff_s

pytestmark = pytest.mark.anyio

Payload = dict[str, Any]


async def test_running_is_200_and_shows_the_status(wire: Wire, job: Payload) -> None:
    answer = await wire.put(job, "running")
    assert (answer.status_code, answer.text, answer.headers["Job-Status"]) == (200, "200", "running")


async def test_an_unknown_state_is_400(wire: Wire, job: Payload) -> None:
    assert (await wire.put(job, "pending")).status_code == 400


async def test_a_wrong_token_is_403_and_a_missing_one_400(wire: Wire, job: Payload) -> None:
    wrong = await wire.put({**job, "token": "glcbt-x"}, "running")
    missing = await wire.client.put(f"/jobs/{job['id']}", json={"state": "running"})
    unknown = await wire.put({**job, "id": 999}, "running")
    assert (wrong.status_code, missing.status_code, unknown.status_code) == (403, 400, 403)
    assert "Job-Status" not in wrong.headers


async def test_success_ends_the_job_and_then_it_is_403(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    first = await wire.put(job, "success")
    second = await wire.put(job, "running")
    trace = await wire.patch(job, b"late", 0)
    assert (first.status_code, first.headers["Job-Status"]) == (200, "success")
    assert (second.status_code, second.headers["Job-Status"]) == (403, "success")
    assert second.json() == {"message": "403 Forbidden - Job is not processing on runner"}
    assert trace.status_code == 403
    assert gitlab.job("only").pipeline.status == "success"


async def test_failed_keeps_reason_and_exit_code(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    answer = await wire.put(job, "failed", failure_reason="script_failure", exit_code=3)
    record = gitlab.job("only")
    assert answer.headers["Job-Status"] == "failed"
    assert (record.failure_reason, record.exit_code) == ("script_failure", 3)


async def test_an_unknown_reason_becomes_unknown_failure(
    gitlab: FakeGitLab, wire: Wire, job: Payload
) -> None:
    await wire.put(job, "failed", failure_reason="gremlins")
    assert gitlab.job("only").failure_reason == "unknown_failure"


async def test_the_checksum_of_the_log_is_compared(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    await wire.patch(job, b"a log\n", 0)
    checksum = f"crc32:{zlib.crc32(b'a log' + bytes([10])):08x}"
    await wire.put(job, "success", output={"checksum": checksum, "bytesize": 6})
    assert gitlab.job("only").trace_checksum_ok


async def test_a_final_update_may_have_to_be_repeated(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    gitlab.behaviour.final_update_waits = 1
    first = await wire.put(job, "success", output={"checksum": "crc32:00000000"})
    between = gitlab.job("only").status
    second = await wire.put(job, "success", output={"checksum": "crc32:00000000"})
    assert (first.status_code, first.headers["X-GitLab-Trace-Update-Interval"]) == (202, "1")
    assert (between, second.status_code, gitlab.job("only").status) == ("running", 200, "success")


@pytest.mark.parametrize(
    ("waited_s", "backoff_s"), [(0, 1), (3, 1), (4, 2), (8, 4), (31, 8), (64, 32), (9999, 64)]
)
def test_final_updates_are_repeated_ever_more_slowly(waited_s: float, backoff_s: int) -> None:
    assert final_backoff_s(waited_s) == backoff_s


async def test_a_trace_grows_by_patches(
    gitlab: FakeGitLab, wire: Wire, job: Payload, clock: HeldClock
) -> None:
    clock.advance(2)
    first = await wire.patch(job, b"hello ", 0)
    clock.advance(2)
    second = await wire.patch(job, b"world", 6)
    record = gitlab.job("only")
    assert (first.status_code, first.headers["Range"], first.headers["Job-Status"]) == (202, "0-6", "running")
    assert first.headers["X-GitLab-Trace-Update-Interval"] == "3"
    assert (second.status_code, second.headers["Range"]) == (202, "0-11")
    assert (gitlab.trace(record), record.running_to_first_output_s) == ("hello world", 2.0)


@pytest.mark.parametrize("start", [0, 3, 12])
async def test_a_gap_or_an_overlap_is_416_with_the_size(wire: Wire, job: Payload, start: int) -> None:
    await wire.patch(job, b"0123456789", 0)
    answer = await wire.patch(job, b"abc", start)
    assert (answer.status_code, answer.headers["Range"]) == (416, "0-10")


async def test_a_chunk_sent_twice_is_accepted_and_kept_once(
    gitlab: FakeGitLab, wire: Wire, job: Payload
) -> None:
    await wire.patch(job, b"0123", 0)
    await wire.patch(job, b"4567", 4)
    again = await wire.patch(job, b"4567", 4)
    assert (again.status_code, gitlab.trace(gitlab.job("only"))) == (202, "01234567")


async def test_the_end_of_a_content_range_is_ignored(wire: Wire, job: Payload) -> None:
    headers = {"JOB-TOKEN": job["token"], "Content-Range": "0-99"}
    answer = await wire.client.patch(f"/jobs/{job['id']}/trace", content=b"abc", headers=headers)
    assert (answer.status_code, answer.headers["Range"]) == (202, "0-3")


@pytest.mark.parametrize("start", ["", "x", "\u00b2", "0x5", "0" * 5000])
async def test_what_a_content_range_does_not_begin_with_a_number_is_0(
    wire: Wire, job: Payload, start: str
) -> None:
    headers = {"JOB-TOKEN": job["token"], "Content-Range": f"{start}-2".encode("latin-1")}
    answer = await wire.client.patch(f"/jobs/{job['id']}/trace", content=b"abc", headers=headers)
    assert (answer.status_code, answer.headers["Range"]) == (202, "0-3")


async def test_a_patch_without_a_range_is_400(wire: Wire, job: Payload) -> None:
    answer = await wire.client.patch(
        f"/jobs/{job['id']}/trace", content=b"abc", headers={"JOB-TOKEN": job["token"]}
    )
    assert answer.status_code == 400


async def test_a_log_over_the_limit_fails_the_job(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    gitlab.behaviour.trace_limit_bytes = 10
    answer = await wire.patch(job, b"01234567890", 0)
    assert answer.status_code == 403
    assert gitlab.job("only").failure_reason == "trace_size_exceeded"


async def test_a_cancel_lets_a_graceful_runner_finish(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    cancelled = await wire.post(f"/projects/group%2Fsample/jobs/{job['id']}/cancel")
    patched = await wire.patch(job, b"cleaning up", 0)
    running = await wire.put(job, "running")
    ended = await wire.put(job, "failed", failure_reason="job_canceled")
    after = await wire.put(job, "running")
    assert (cancelled.status_code, cancelled.json()["status"]) == (201, "canceling")
    assert (patched.status_code, patched.headers["Job-Status"]) == (202, "canceling")
    assert (running.status_code, running.headers["Job-Status"]) == (200, "canceling")
    assert (ended.status_code, ended.headers["Job-Status"]) == (200, "canceled")
    assert (after.status_code, after.headers["Job-Status"]) == (403, "canceled")
    assert gitlab.job("only").failure_reason is None


async def test_a_success_that_comes_after_a_cancel_is_canceled(
    gitlab: FakeGitLab, wire: Wire, job: Payload
) -> None:
    gitlab.cancel(gitlab.job("only"))
    assert (await wire.put(job, "success")).headers["Job-Status"] == "canceled"


async def test_force_ends_a_canceling_job(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    path = f"/projects/group%2Fsample/jobs/{job['id']}/cancel"
    await wire.post(path)
    forced = await wire.post(path, force=True)
    assert forced.json()["status"] == "canceled"
    assert (await wire.put(job, "running")).status_code == 403


async def test_without_the_feature_a_cancel_is_at_once(gitlab: FakeGitLab, wire: Wire) -> None:
    project = await gitlab.add_project("group/sample", {".gitlab-ci.yml": ONE_JOB})
    await gitlab.run_pipeline(project)
    job = (await wire.ask(gitlab.add_runner(), info={"features": {}})).json()
    gitlab.cancel(gitlab.job("only"))
    answer = await wire.put(job, "running")
    assert (answer.status_code, answer.headers["Job-Status"]) == (403, "canceled")


async def test_a_running_job_without_a_sign_for_an_hour_is_stuck(
    gitlab: FakeGitLab, wire: Wire, job: Payload, clock: HeldClock
) -> None:
    clock.advance(3000)
    await wire.put(job, "running")
    clock.advance(3000)
    early = gitlab.drop_stuck_jobs()
    clock.advance(601)
    late = gitlab.drop_stuck_jobs()
    assert early == []
    assert [record.failure_reason for record in late] == ["stuck_or_timeout_failure"]
