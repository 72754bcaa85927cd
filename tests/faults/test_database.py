"""The database is restarted, gone, frozen, locked, full: hooks get 2xx, nothing is asked, no job is lost."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from tests.postgresql import PostgreSQL, running
from tests.scene.controllers import SECRET, ControllerProcess, Scene, scene
from tests.scene.guests import patient

from firerunner.images import Image

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

ASK = r"/api/v4/jobs/request"
AWAY_S = 5.0


@pytest.fixture
def server() -> Iterator[PostgreSQL]:
    """One for each test: it is mistreated."""
    with running() as started:
        yield started


@pytest.fixture
async def on_postgresql(server: PostgreSQL, image: Image) -> AsyncIterator[Scene]:
    async with scene(await server.fresh_url(), image, count=1) as built:
        await built.start_all()
        yield built


@pytest.fixture
async def on_sqlite(image: Image) -> AsyncIterator[Scene]:
    async with scene(None, image, count=1) as built:
        await built.start_all()
        yield built


async def hooked(it: Scene) -> int:
    """The status of an authentic hook's answer."""
    hook = {"object_kind": "build", "build_status": "pending", "project_id": it.project.id}
    async with httpx.AsyncClient(trust_env=False) as http:
        url, headers = f"http://127.0.0.1:{it.controllers[0].web}/webhook", {"X-Gitlab-Token": SECRET}
        return (await http.post(url, json=hook, headers=headers, timeout=2.0)).status_code


async def while_away(it: Scene) -> None:
    """What holds while the database cannot be written."""
    await asyncio.sleep(2.0)  # asks that had been written down before have left
    before = len(it.gitlab.calls(path=ASK))
    pending = await it.run_jobs(2)
    for _ in range(int(AWAY_S)):
        assert await hooked(it) in range(200, 300)
        await asyncio.sleep(1.0)
    assert len(it.gitlab.calls(path=ASK)) == before
    assert [job.status for job in pending] == ["pending"] * 2


async def working(it: Scene) -> None:
    """Some jobs run."""
    it.vmm.life = patient(5.0)
    jobs = await it.run_jobs(3)
    await it.until(lambda: all(job.status == "running" for job in jobs))


async def all_well(it: Scene) -> None:
    """Every job of GitLab has ended as it should, without anybody's help."""
    jobs = it.gitlab.jobs() + await it.run_jobs(1)
    await it.ended(jobs, 120.0)
    await it.check_clean()


async def test_postgresql_crashes_again_and_again_under_load(
    on_postgresql: Scene, server: PostgreSQL
) -> None:
    await working(on_postgresql)
    for _ in range(3):
        await asyncio.to_thread(server.stop, "immediate")
        await asyncio.to_thread(server.start)
        await on_postgresql.run_jobs(1)
        await asyncio.sleep(1.5)

    await all_well(on_postgresql)


async def test_postgresql_is_gone_for_a_while(on_postgresql: Scene, server: PostgreSQL) -> None:
    await working(on_postgresql)
    await asyncio.to_thread(server.stop, "immediate")
    await while_away(on_postgresql)
    await asyncio.to_thread(server.start)

    await all_well(on_postgresql)


async def test_postgresql_stands_still_for_a_while(on_postgresql: Scene, server: PostgreSQL) -> None:
    await working(on_postgresql)
    server.freeze()
    await while_away(on_postgresql)
    server.thaw()

    await all_well(on_postgresql)


async def test_postgresql_is_full_for_a_while(on_postgresql: Scene, server: PostgreSQL) -> None:
    await working(on_postgresql)
    server.fill_disk()
    await while_away(on_postgresql)
    await asyncio.to_thread(server.empty_disk)

    await all_well(on_postgresql)


async def test_sqlite_is_locked_by_another_program(on_sqlite: Scene) -> None:
    await working(on_sqlite)
    path = on_sqlite.controllers[0].config.parent / "state" / "ledger.db"
    other = sqlite3.connect(path, isolation_level=None, timeout=30)
    other.execute("BEGIN IMMEDIATE")
    await while_away(on_sqlite)
    other.execute("ROLLBACK")
    other.close()

    await all_well(on_sqlite)


async def test_sqlites_disk_is_full_for_a_while(on_sqlite: Scene) -> None:
    await working(on_sqlite)
    limit_files(on_sqlite.controllers[0], 0)
    await while_away(on_sqlite)
    limit_files(on_sqlite.controllers[0], resource.RLIM_INFINITY)

    await all_well(on_sqlite)


def limit_files(controller: ControllerProcess, size: int) -> None:
    """No file of the process may grow beyond so many bytes: to a database it is a full disk."""
    assert controller.process is not None
    resource.prlimit(controller.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
