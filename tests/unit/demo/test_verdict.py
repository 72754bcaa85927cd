"""The demo's judge: silent when all went well, and precise when not."""

from __future__ import annotations

import dataclasses

import pytest

from firerunner.demo.sample import EXPECTED, GuestFacts, project_files, read_trace
from firerunner.demo.verdict import Observed, Outcome, Seconds, complaints
from firerunner.demo.watch import last_line
from firerunner.fakes.gitlab.ci_yaml import parse

NONCE = "cafe"
GOOD = Observed(artifact=f"nonce={NONCE}", canceled_to_gone_s=2.0, killed_to_failed_s=3.0, unhooked_hooks=0)


def good_outcomes() -> list[Outcome]:
    outcomes = []
    for name, expected in EXPECTED.items():
        for status, reason in expected.ends:
            number = len(outcomes)
            machine = f"fr-{number:012d}"
            facts = GuestFacts("6.1", 1, 220, machine, NONCE)
            seconds = Seconds(0.1, 3.0, 5.0)
            trace = f"...{expected.in_trace}..."
            outcomes.append(Outcome(name, number, status, reason, machine, facts, trace, 1, seconds))
    return outcomes


def test_nothing_is_said_when_all_went_well() -> None:
    assert complaints(good_outcomes(), GOOD, NONCE) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "failed"}, "build: ended as failed, should be success"),
        ({"trace": "nothing"}, "build: its trace lacks 'words=23'"),
        ({"handed_out": 2}, "build: handed out 2 times"),
        ({"machine": "fr-000000000001"}, "two jobs ran in one machine"),
        ({"facts": GuestFacts(machine="fr-000000000000", nonce="beef")}, "has the nonce 'beef'"),
        ({"facts": GuestFacts(machine="fr-elsewhere", nonce=NONCE)}, "ran in fr-elsewhere"),
    ],
)
def test_a_job_that_went_wrong_is_named(change: dict[str, object], said: str) -> None:
    outcomes = good_outcomes()
    outcomes[0] = dataclasses.replace(outcomes[0], **change)  # type: ignore[arg-type]

    assert said in " / ".join(complaints(outcomes, GOOD, NONCE))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"artifact": None}, "artifact does not hold the nonce"),
        ({"canceled_to_gone_s": 16.0}, "took 16.0 s, should be at most 15 s"),
        ({"killed_to_failed_s": None}, "from the kill to failed was never seen"),
        ({"unhooked_hooks": 1}, "a hook about unhooked was delivered"),
    ],
)
def test_what_was_observed_is_judged_too(change: dict[str, object], said: str) -> None:
    observed = dataclasses.replace(GOOD, **change)  # type: ignore[arg-type]

    assert said in " / ".join(complaints(good_outcomes(), observed, NONCE))


def test_a_retry_that_never_came_is_named() -> None:
    outcomes = [
        outcome for outcome in good_outcomes() if (outcome.name, outcome.status) != ("orphan", "success")
    ]

    assert "orphan: ended as failed (runner_system_failure), should be" in " ".join(
        complaints(outcomes, GOOD, NONCE)
    )


def test_the_trace_of_the_sample_is_read() -> None:
    trace = (
        '\x1b[32;1m$ echo "machine=$(hostname) nonce=$NONCE"\x1b[0;m\r\n'
        "guest_kernel=6.1.0-43-cloud-amd64 vcpu=2 memory_mib=355\r\nmachine=fr-0123456789ab nonce=cafe\r\n"
    )

    assert read_trace(trace) == GuestFacts("6.1.0-43-cloud-amd64", 2, 355, "fr-0123456789ab", "cafe")
    assert read_trace("nothing of it") == GuestFacts()


def test_the_trace_of_the_official_runner_has_timestamps() -> None:
    trace = "2026-11-24T07:18:30.123456Z 01O machine=fr-0123456789ab nonce=cafe\n"

    assert read_trace(trace).nonce == "cafe"
    assert last_line(trace) == "machine=fr-0123456789ab nonce=cafe"


def test_the_sample_is_a_pipeline_with_just_the_expected_jobs() -> None:
    ci = parse(project_files()[".gitlab-ci.yml"])

    assert {job.name for job in ci.jobs} == set(EXPECTED)


def test_the_last_line_is_plain_text() -> None:
    assert last_line("one\n\x1b[0Ksection_start:1:x\r\x1b[0K\x1b[36;1mtwo\x1b[0;m\n\n") == "two"
