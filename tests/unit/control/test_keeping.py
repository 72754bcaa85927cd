"""Jobs that no runner speaks for are kept alive, in each GitLab for itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from firerunner.control import keeping
from firerunner.errors import NotLeader
from firerunner.gitlab.jobs import JobReply
from firerunner.ledger import JobRecord, JobState

pytestmark = pytest.mark.anyio


def job(job_id: int, gitlab: str) -> JobRecord:
    return JobRecord(
        job_id=job_id,
        gitlab=gitlab,
        gitlab_job_id=job_id,
        pool="small",
        machine_id=None,
        state=JobState.TAKEN,
        state_since=0.0,
        name="unit",
        project_id=1,
        project_path="group/app",
        timeout_s=None,
        taken_at=0.0,
    )


class Two:
    """A context with two GitLabs, of which one never answers."""

    def __init__(self) -> None:
        self.now = 100.0
        self.kept: list[int] = []
        self.asked: list[int] = []
        self.jobs = [job(1, "hangs"), job(2, "hangs"), job(3, "well"), job(4, "well")]
        self.fault: Exception | None = None
        self.ledger = SimpleNamespace(jobs=self._jobs, job_token=self._token)
        self.log = SimpleNamespace(warning=print, error=print)

    async def _jobs(self) -> list[JobRecord]:
        return self.jobs

    async def _token(self, job_id: int) -> str:
        return f"token-{job_id}"

    def gitlab(self, name: str) -> Any:
        async def keep(job_id: int, token: str) -> JobReply:
            self.asked.append(job_id)
            if name == "hangs":
                await asyncio.Event().wait()
            if self.fault is not None:
                raise self.fault
            self.kept.append(job_id)
            return JobReply(accepted=True, gone=False, status=200)

        return SimpleNamespace(jobs=SimpleNamespace(keep=keep))

    def clock(self) -> float:
        return self.now

    def heard_at(self, machine_id: str) -> float:
        return 0.0

    @contextlib.contextmanager
    def outlived(self, doing: str) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def keeping_jobs(two: Two) -> Any:
    task = asyncio.create_task(keeping.keep_jobs(two))  # type: ignore[arg-type]
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Any) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_gitlab_that_hangs_keeps_nobody_from_keeping_anothers_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "LOOK_EVERY_S", 0.01)
    two, before = Two(), asyncio.all_tasks()
    async with keeping_jobs(two):
        await until(lambda: two.kept == [3, 4])
        two.now += keeping.KEEP_EVERY_S
        await until(lambda: two.kept == [3, 4, 3, 4])

    assert [each for each in two.asked if each < 3] == [1]
    assert asyncio.all_tasks() == before


async def test_who_leads_no_more_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "LOOK_EVERY_S", 0.01)
    two = Two()
    two.fault = NotLeader("another leads")
    async with keeping_jobs(two) as task:
        with pytest.raises(NotLeader):
            await asyncio.wait_for(task, 10)
