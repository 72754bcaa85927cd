"""The soak in short, and that it sees what happens without a safeguard."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim import timeline
from tests.soak.run import Soak, live

pytestmark = pytest.mark.timeout(400)


def lived(folder: Path, jobs: int, seed: int) -> Soak:
    return timeline.run(live(folder / "world", jobs, seed, lambda soak: None))


def test_a_short_life_with_faults_loses_nothing(tmp_path: Path) -> None:
    soak = lived(tmp_path, 200, 3)

    assert (soak.lost, soak.twice, soak.leaked, soak.killed, soak.disrespected) == ([], [], [], [], 0)
    assert soak.ended == 200
    assert soak.kills > 0


def test_without_deadlines_the_soak_sees_jobs_that_never_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firerunner.control.sweeping.overdue", lambda *_args, **_facts: None)
    monkeypatch.setattr("tests.soak.run.KINDS", {"mute": 1})

    with pytest.raises(TimeoutError):
        timeline.run(_within(tmp_path))


async def _within(folder: Path) -> None:
    import asyncio

    async with asyncio.timeout(6 * 3600.0):
        await live(folder / "world", 10, 3, lambda soak: None)
