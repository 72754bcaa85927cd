"""The chaos harness in short, and that it sees what happens without a safeguard."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.scenario import Verdict, kinds_of, play
from tests.sim import timeline

pytestmark = pytest.mark.timeout(400)

IN_WINDOW = ("Ledger.take: before", 1)


def played(folder: Path, seed: int, *deaths: int | tuple[str, int]) -> Verdict:
    return timeline.run(play(folder / "world", seed, list(deaths), patience_s=900.0))


def test_forty_deaths_lose_nothing() -> None:
    command = [sys.executable, "-m", "tests.chaos", "--n", "40", "--seed", "11", "--real", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    report = json.loads(done.stdout.splitlines()[-1])
    assert (report["lost"], report["twice"], report["leaked"]) == (0, 0, 0), report
    assert report["simulated_deaths"] == 40
    assert done.returncode == 0


def test_a_death_between_gitlabs_201_and_our_commit_is_made_good(tmp_path: Path) -> None:
    verdict = played(tmp_path, 5, IN_WINDOW)

    assert verdict.killed_at == [IN_WINDOW[0]]
    assert (verdict.in_window, verdict.found) == (1, 1)
    assert (verdict.lost, verdict.twice, verdict.leaked) == ([], [], [])


def test_without_the_look_up_the_harness_sees_a_lost_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(*_: Any) -> None:
        pass

    monkeypatch.setattr("firerunner.control.recovery.remember", forget)

    lost = played(tmp_path, 5, IN_WINDOW).lost

    assert "GitLab has open jobs" in lost
    assert any("ended running" in line for line in lost)


def test_without_the_removal_of_records_the_harness_sees_a_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(ctx: Any, machine: Any) -> bool:
        await ctx.ledger.manager_removed(machine.machine_id)
        return True

    monkeypatch.setattr("firerunner.control.retiring._remove_record", forget)

    assert any("manager record" in line for line in played(tmp_path, 5).leaked)


def test_without_the_kept_answer_a_job_that_was_delivered_runs_twice_or_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recovery that gives every job another machine, whatever it had come to."""
    monkeypatch.setattr("firerunner.control.recovery.recover", _forgetful)
    monkeypatch.setattr("firerunner.control.controller.recover", _forgetful)

    verdict = played(tmp_path, 5, ("PATCH jobs/N/trace: after", 1))
    assert verdict.lost or verdict.twice


async def _forgetful(ctx: Any) -> None:
    from firerunner.control.failing import fail_machine

    for machine in await ctx.ledger.machines():
        await fail_machine(ctx, machine.machine_id, "forgotten")


def test_the_seeds_have_jobs_of_all_kinds() -> None:
    kinds = {kind for seed in range(60) for kind in kinds_of(seed)}
    assert kinds == {"ok", "fails", "long", "dies", "cancel"}
