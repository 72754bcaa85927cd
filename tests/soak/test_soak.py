"""The soak in short, and that it sees what happens without a safeguard."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.sim import timeline
from tests.soak.run import Soak, live

pytestmark = pytest.mark.timeout(400)


def lived(folder: Path, jobs: int, seed: int) -> Soak:
    return timeline.run(live(folder / "world", jobs, seed, lambda soak: None))


def test_a_short_life_with_faults_loses_nothing(tmp_path: Path) -> None:
    soak = lived(tmp_path, 100, 6)

    assert (soak.lost, soak.twice, soak.leaked, soak.killed, soak.disrespected) == ([], [], [], [], 0)
    assert soak.ended == 100
    assert soak.kills > 0


def test_without_deadlines_the_soak_sees_jobs_that_never_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_trouble(*_: object) -> None:
        await asyncio.sleep(1e9)

    monkeypatch.setattr("tests.soak.run.KINDS", {"mute": 1})
    monkeypatch.setattr("tests.soak.run._trouble", no_trouble)
    monkeypatch.setattr("firerunner.control.sweeping.overdue", lambda *_args, **_facts: None)
    with pytest.raises(TimeoutError):
        timeline.run(_one_within(tmp_path))


async def _one_within(folder: Path) -> None:
    async with asyncio.timeout(1500.0):
        await live(folder / "world", 1, 7, lambda soak: None)
