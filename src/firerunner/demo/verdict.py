"""Pure: what came out of a run, whether it is as it should be, and what to say where it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firerunner.demo.sample import EXPECTED, GuestFacts


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long a job took; None where it did not come so far."""

    pending_to_running: float | None
    running_to_first_output: float | None
    total: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One job of the pipeline after its end, as GitLab has it."""

    name: str
    id: int
    status: str
    failure_reason: str | None
    machine: str | None
    facts: GuestFacts
    trace: str
    handed_out: int
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class Observed:
    """What the demo itself has seen happen, in seconds; None if it did not."""

    artifact: str | None
    """The text of build's artifact."""
    canceled_to_gone_s: float | None
    killed_to_failed_s: float | None
    unhooked_hooks: int
    """Hooks about the job `unhooked` that were delivered all the same."""
    lost: frozenset[str] = frozenset()
    """Machines that were on a host when it lost its power; empty if none did."""


LOST = ("failed", "runner_system_failure")
"""How a job ends whose machine is lost; its retry has to end as it should."""

CANCEL_LIMIT_S = 15.0
KILL_LIMIT_S = 15.0
LOSS_LIMIT_S = 120.0
"""A runner is silent for up to 60 s, and a host that is silent may come back."""


def complaints(outcomes: Sequence[Outcome], observed: Observed, nonce: str) -> list[str]:
    """One sentence for each thing that is not as it should be."""
    by_name: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: outcome.id):
        by_name.setdefault(outcome.name, []).append(outcome)
    said = _about_jobs(by_name, observed.lost, nonce)
    machines = [outcome.machine for outcome in outcomes if outcome.machine]
    if len(machines) != len(set(machines)):
        said.append("two jobs ran in one machine")
    if observed.artifact is None or f"nonce={nonce}" not in observed.artifact:
        said.append("build's artifact does not hold the nonce")
    said += _in_time("slow: from canceled to its machine gone", observed.canceled_to_gone_s, CANCEL_LIMIT_S)
    limit_s = LOSS_LIMIT_S if observed.lost else KILL_LIMIT_S
    said += _in_time("orphan: from the kill to failed", observed.killed_to_failed_s, limit_s)
    if observed.unhooked_hooks:
        said.append("a hook about unhooked was delivered")
    return said


def _about_jobs(by_name: Mapping[str, Sequence[Outcome]], lost: frozenset[str], nonce: str) -> list[str]:
    said = []
    for name, expected in EXPECTED.items():
        runs = by_name.get(name, [])
        ends = tuple(_end(run) for run in runs if not (run.machine in lost and _end(run) == LOST))
        wanted = tuple(end for end in expected.ends if not (lost and end == LOST))
        if ends != wanted:
            said.append(f"{name}: ended as {_words(ends)}, should be {_words(wanted)}")
            continue
        if expected.in_trace not in runs[-1].trace:
            said.append(f"{name}: its trace lacks {expected.in_trace!r}")
        for run in runs:
            if run.machine in lost and run.facts.nonce is None:
                continue  # it was lost before it had said anything
            if run.facts.nonce != nonce:
                said.append(f"{name}: its trace has the nonce {run.facts.nonce!r}, should be {nonce!r}")
            if run.handed_out != 1:
                said.append(f"{name}: handed out {run.handed_out} times")
            if run.facts.machine != run.machine:
                said.append(f"{name}: ran in {run.facts.machine}, the ledger says {run.machine}")
    return said


def _end(run: Outcome) -> tuple[str, str | None]:
    return run.status, run.failure_reason


def _in_time(what: str, seconds: float | None, limit_s: float) -> list[str]:
    if seconds is None:
        return [f"{what} was never seen"]
    return [f"{what} took {seconds:.1f} s, should be at most {limit_s:.0f} s"] if seconds > limit_s else []


def _words(ends: Sequence[tuple[str, str | None]]) -> str:
    return ", then ".join(status + (f" ({reason})" if reason else "") for status, reason in ends) or "nothing"
