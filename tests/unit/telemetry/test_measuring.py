"""Moves, calls and requests become the right figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from firerunner.gitlab.measured import Call, endpoint
from firerunner.ledger import JobRecord, JobState, Keyring, Ledger, MachineRecord, MachineState, NewJob
from firerunner.ledger.moves import JobMove, MachineMove
from firerunner.machines.spec import Resources, Started
from firerunner.measuring import Measuring, expect, fleet_samples
from firerunner.planning import PoolState, standing
from firerunner.telemetry import Metrics
from firerunner.telemetry import catalogue as its
from tests.unit.planning.planning_given import Told

pytestmark = pytest.mark.anyio

MACHINE = MachineRecord(
    machine_id="fr-aaaaaaaaaaaa",
    pool="small",
    host="kvm-1",
    state=MachineState.WAITING,
    state_since=100.0,
    resources=Resources(1, 1024, 1024),
    image_digest="0" * 64,
    created_at=90.0,
    booted_at=99.0,
)
JOB = JobRecord(
    job_id=7,
    gitlab="gitlab",
    gitlab_job_id=7,
    pool="small",
    machine_id=MACHINE.machine_id,
    state=JobState.TAKEN,
    state_since=110.0,
    name="one",
    project_id=1,
    project_path="demo/app",
    timeout_s=None,
    taken_at=110.0,
    attempts=1,
)


class Given:
    """Measuring with a clock that stands still, and short looks at what it shows."""

    def __init__(self, warm: int = 1) -> None:
        self.metrics = Metrics()
        self.measuring = Measuring(self.metrics, lambda pool: bool(warm), lambda: 115.0)

    def sum(self, what: its.Declared, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"{what.name}_sum", labels)

    def job(self, state: JobState, was: JobState, at: float, **changes: object) -> None:
        job = replace(JOB, state=state, state_since=at, **changes)
        self.measuring.moved(JobMove(job, was, 1.0, MACHINE))


def test_the_times_of_a_job_on_a_warm_machine() -> None:
    given = Given()

    given.job(JobState.ASSIGNED, JobState.TAKEN, 110.0)
    given.job(JobState.RUNNING, JobState.DELIVERED, 112.0)
    given.measuring.first_word(7, queued_s=30.0)
    given.measuring.first_output(7)
    given.measuring.first_output(7)

    assert given.metrics.value(its.WARM, "small", "hit") == 1
    assert given.sum(its.JOB_START, pool="small", start="warm") == 2.0
    assert given.sum(its.JOB_TO_RUNNING, pool="small", start="warm") == 32.0
    assert given.sum(its.JOB_TO_OUTPUT, pool="small", start="warm") == 35.0
    assert given.sum(its.JOB_STATE, pool="small", state="delivered") == 1.0


def test_a_machine_that_was_booted_for_the_job_is_cold_and_a_miss() -> None:
    given = Given()
    cold = replace(MACHINE, state=MachineState.RESERVED, booted_at=111.0)

    given.measuring.moved(JobMove(replace(JOB, state=JobState.ASSIGNED), JobState.TAKEN, 0.0, cold))
    given.measuring.moved(
        JobMove(replace(JOB, state=JobState.RUNNING, state_since=114.0), JobState.DELIVERED, 0.0, cold)
    )

    assert given.metrics.value(its.WARM, "small", "miss") == 1
    assert given.sum(its.JOB_START, pool="small", start="cold") == 4.0


def test_a_machine_that_was_restored_for_the_job_is_told_from_one_that_booted() -> None:
    given = Given()
    made = replace(MACHINE, state=MachineState.BUSY, booted_at=111.0)
    running = replace(JOB, state=JobState.RUNNING, state_since=112.0)

    given.measuring.started(MACHINE.machine_id, Started.RESTORED)
    given.measuring.moved(JobMove(running, JobState.DELIVERED, 0.0, made))
    given.measuring.moved(MachineMove(replace(made, state=MachineState.RETIRING), MachineState.BUSY, 1.0))
    given.measuring.started(MACHINE.machine_id, Started.COLD)
    given.measuring.moved(JobMove(replace(running, job_id=8), JobState.DELIVERED, 0.0, made))

    assert given.sum(its.JOB_START, pool="small", start="restored") == 2.0
    assert given.sum(its.JOB_START, pool="small", start="cold") == 2.0


def test_without_gitlabs_word_on_the_queue_only_our_own_time_is_known() -> None:
    given = Given(warm=0)

    given.job(JobState.ASSIGNED, JobState.TAKEN, 110.0)
    given.job(JobState.RUNNING, JobState.DELIVERED, 112.0)
    given.measuring.first_word(7, queued_s=None)
    given.measuring.first_output(7)

    assert given.sum(its.JOB_START, pool="small", start="warm") == 2.0
    assert given.sum(its.JOB_TO_RUNNING, pool="small", start="warm") is None
    assert given.sum(its.JOB_TO_OUTPUT, pool="small", start="warm") is None
    assert given.metrics.value(its.WARM, "small", "hit") == 0


@pytest.mark.parametrize(
    ("state", "status", "outcome"),
    [
        (JobState.ENDED, "success", "success"),
        (JobState.ENDED, "failed", "failed"),
        (JobState.ENDED, "canceled", "canceled"),
        (JobState.ENDED, "a word of a GitLab to come", "unknown"),
        (JobState.ENDED, None, "unknown"),
        (JobState.RETURNED, "failed", "system_failure"),
        (JobState.RETURNED, "canceled", "canceled"),
        (JobState.RETURNED, None, "system_failure"),
    ],
)
def test_every_end_has_one_of_few_outcomes(state: JobState, status: str | None, outcome: str) -> None:
    given = Given()

    given.job(state, JobState.RUNNING, 120.0, gitlab_status=status)

    assert given.metrics.value(its.JOBS, "small", outcome) == 1


def test_a_failure_is_counted_by_the_state_that_it_ended() -> None:
    given = Given()
    failed = replace(MACHINE, state=MachineState.FAILED)

    given.measuring.moved(MachineMove(MACHINE))
    given.measuring.moved(MachineMove(failed, MachineState.BOOTING, 90.0))

    assert given.metrics.value(its.FAILURES, "small", "kvm-1", "booting") == 1
    assert given.sum(its.MACHINE_STATE, pool="small", state="booting") == 90.0


@pytest.mark.parametrize(
    ("method", "path", "what", "job"),
    [
        ("POST", "/api/v4/jobs/request", "ask", None),
        ("PUT", "/git/api/v4/jobs/12", "job_update", 12),
        ("PATCH", "/api/v4/jobs/12/trace", "job_trace", 12),
        ("GET", "/api/v4/jobs/12/artifacts", "artifacts_download", 12),
        ("DELETE", "/api/v4/jobs/12", "other", 12),
        ("DELETE", "/api/v4/runners/managers", "manager_delete", None),
        ("GET", "/help", "other", None),
    ],
)
def test_calls_are_told_apart_by_endpoint(method: str, path: str, what: str, job: int | None) -> None:
    assert endpoint(method, path) == (what, job)


def test_the_head_room_that_gitlab_tells_is_shown() -> None:
    given = Given()

    given.measuring.heard("main", Call("ask", 429, 0.2, remaining=3, limit=600))
    given.measuring.heard("main", Call("ask", None, 5.0))

    assert given.metrics.value(its.GITLAB_HEADROOM, "main") == 3
    assert given.metrics.value(its.GITLAB_LIMIT, "main") == 600
    assert given.sum(its.GITLAB_CALLS, gitlab="main", endpoint="ask", outcome="429") == 0.2
    assert given.sum(its.GITLAB_CALLS, gitlab="main", endpoint="ask", outcome="none") == 5.0


def test_the_fleet_is_shown_in_base_units_and_each_pool_in_one_state() -> None:
    told = Told()
    told.host("local", Resources(4, 8192, 65536))
    told.pool("small", limit=5)

    samples = {(what.name, labels): value for what, labels, value in fleet_samples(standing(told.fleet), 2)}

    assert samples["firerunner_host_memory_bytes", ("local",)] == 8192 * 1024 * 1024
    assert samples["firerunner_pool_limit", ("small",)] == 5
    assert samples["firerunner_events_waiting", ()] == 2
    assert [samples["firerunner_pool_state", ("small", each)] for each in PoolState].count(1.0) == 1


def test_what_alerts_look_at_is_known_before_it_happens() -> None:
    metrics = Metrics()

    expect(metrics, ["small"], ["kvm-1"])

    text = metrics.exposition().decode()
    assert 'firerunner_leaks_total{host="kvm-1"} 0.0' in text
    assert 'firerunner_asks_total{answer="refused",pool="small"} 0.0' in text


class Onlooker:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.moves: list[object] = []
        self.operations: list[tuple[str, bool]] = []

    def moved(self, move: object) -> None:
        self.moves.append(move)

    def took(self, operation: str, seconds: float, *, failed: bool) -> None:
        self.operations.append((operation, failed))


async def test_the_ledger_tells_what_it_has_committed_and_no_more(tmp_path: Path) -> None:
    ledger = await Ledger.open(f"sqlite:///{tmp_path}/ledger.db", Keyring.generate(), lambda: 100.0)
    seen = Onlooker()
    ledger.show_to(seen)
    try:
        await ledger.reserve("fr-aaaaaaaaaaaa", "small", "kvm-1", Resources(1, 1, 1), "0" * 64, asking=True)
        await ledger.take("fr-aaaaaaaaaaaa", NewJob(7, "token", "one", 1, "demo/app", None))
        await ledger.take("fr-aaaaaaaaaaaa", NewJob(7, "token", "one", 1, "demo/app", None))
        with pytest.raises(Exception, match="cannot go from"):
            await ledger.move_machine("fr-aaaaaaaaaaaa", MachineState.BUSY)
    finally:
        await ledger.aclose()

    jobs = [move for move in seen.moves if isinstance(move, JobMove)]
    assert [move.job.state for move in jobs] == [JobState.TAKEN, JobState.ASSIGNED]
    assert len(seen.moves) == 3
    assert ("write", True) not in seen.operations
