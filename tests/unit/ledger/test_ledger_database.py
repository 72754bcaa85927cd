"""The database itself: migrations, many writers, cancelled callers, failures."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from ledger_given import SMALL, A, In, machine_in, new_job

from firerunner.errors import LedgerError, StaleWrite
from firerunner.ledger import JobState, Ledger, MachineState, migrate
from firerunner.ledger.database import parse_url
from firerunner.ledger.schema import metadata
from firerunner.ledger.writer import CROWD, Writer

pytestmark = pytest.mark.anyio

SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


async def test_the_migrations_build_what_the_schema_says(in_database: In) -> None:
    def differences(connection: sa.Connection) -> list[Any]:
        migrate.upgrade(connection)
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        return compare_metadata(context, metadata)

    found = await in_database(differences)
    # PostgreSQL counts up by a default of the column's, which the schema does not spell out.
    assert [each for each in found if "nextval" not in str(each)] == []


async def test_migrations_go_forward_and_back_and_forward(in_database: In) -> None:
    def there_and_back(connection: sa.Connection) -> tuple[set[str], set[str]]:
        migrate.upgrade(connection)
        migrate.downgrade(connection, "base")
        left = set(sa.inspect(connection).get_table_names()) - {"sqlite_sequence"}
        migrate.upgrade(connection)
        return left, set(sa.inspect(connection).get_table_names())

    left, again = await in_database(there_and_back)

    assert left == {"alembic_version"}
    assert set(metadata.tables) < again


@SQLITE
async def test_a_database_of_a_newer_version_is_refused(ledger: Ledger, url, keys, clock) -> None:
    await ledger.aclose()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    database.close()

    with pytest.raises(LedgerError, match="revision 9999"):
        await Ledger.open(url, keys, clock)


async def test_opening_again_finds_everything(ledger: Ledger, url, keys, clock) -> None:
    await machine_in(ledger, MachineState.WAITING)
    record, history = await ledger.machine(A), await ledger.journal()
    await ledger.aclose()

    again = await Ledger.open(url, keys, clock)

    assert (await again.machine(A), await again.journal()) == (record, history)
    await again.aclose()


@SQLITE
async def test_sqlite_is_set_to_lose_nothing(ledger: Ledger) -> None:
    async with ledger._access.engine.connect() as connection:
        settings = {
            name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite://", "sqlite:///:memory:"])
def test_what_is_no_ledger_is_refused(url: str) -> None:
    with pytest.raises(LedgerError):
        parse_url(url)


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, keys, clock) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(LedgerError, match=r"file/ledger.db cannot be opened"):
        await Ledger.open(f"sqlite:///{tmp_path}/file/ledger.db", keys, clock)


async def test_a_file_that_is_no_database_is_named(tmp_path: Path, keys, clock) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)

    with pytest.raises(LedgerError, match="not a database"):
        await Ledger.open(f"sqlite:///{path}", keys, clock)


async def test_many_coroutines_write_and_read_at_once(ledger: Ledger) -> None:
    ids = [f"fr-{number:012d}" for number in range(60)]

    async def live(machine_id: str) -> None:
        await ledger.reserve(machine_id, "demo", "local", SMALL, "sha256:1")
        await ledger.machine(machine_id)
        await ledger.move_machine(machine_id, MachineState.CREATING)
        await ledger.machines()
        await ledger.move_machine(machine_id, MachineState.BOOTING)

    await asyncio.gather(*(live(machine_id) for machine_id in ids))

    assert {m.state for m in await ledger.machines()} == {MachineState.BOOTING}
    assert len(await ledger.journal(limit=1000)) == 3 * len(ids)


async def test_two_handles_on_one_file_wait_for_each_other(ledger: Ledger, url, keys, clock) -> None:
    other = await Ledger.open(url, keys, clock)

    await asyncio.gather(
        *(ledger.note("pool", "a", "note") for _ in range(50)),
        *(other.note("pool", "b", "note") for _ in range(50)),
    )

    assert len(await ledger.journal()) == 100
    await other.aclose()


async def test_of_many_who_move_the_same_machine_one_succeeds(ledger: Ledger) -> None:
    await machine_in(ledger, MachineState.RESERVED)

    results = await asyncio.gather(
        *(ledger.move_machine(A, MachineState.CREATING, expect=MachineState.RESERVED) for _ in range(10)),
        return_exceptions=True,
    )

    assert sum(isinstance(result, StaleWrite) for result in results) == 9
    assert len(await ledger.journal()) == 2


async def test_a_refused_write_undoes_nothing_of_those_that_share_its_commit(ledger: Ledger) -> None:
    results = await asyncio.gather(
        ledger.note("pool", "demo", "before"),
        ledger.note("pool", "demo", "first"),
        ledger.move_machine(A, MachineState.CREATING),
        ledger.note("pool", "demo", "second"),
        return_exceptions=True,
    )

    assert isinstance(results[2], StaleWrite)
    assert [entry.event for entry in await ledger.journal()] == ["before", "first", "second"]


async def test_a_write_that_comes_a_moment_later_shares_the_commit(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[int] = []
    together = Writer._together

    async def counted(writer: Writer, batch: list[Any]) -> bool:
        commits.append(len(batch))
        return await together(writer, batch)

    monkeypatch.setattr(Writer, "_together", counted)
    first = asyncio.create_task(ledger.note("pool", "demo", "first"))
    await asyncio.sleep(0)  # it is asked for now
    await asyncio.gather(ledger.note("pool", "demo", "second"), first)

    assert commits == [2]


@pytest.mark.parametrize(("writes", "waits"), [(CROWD - 1, False), (CROWD, True)])
async def test_only_after_many_writes_at_once_are_more_waited_for(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, writes: int, waits: bool
) -> None:
    """A few come together when one job is handed over, and what comes next is what it waits for."""
    monkeypatch.setattr("firerunner.ledger.writer.CROWDED_S", 60.0)
    monkeypatch.setattr("firerunner.ledger.writer.GATHER_S", 3600.0)
    await asyncio.gather(*(ledger.note("pool", "demo", f"{each}") for each in range(writes)))

    done, waiting = await asyncio.wait([asyncio.create_task(ledger.note("pool", "demo", "next"))], timeout=5)

    assert (len(done), len(waiting)) == ((0, 1) if waits else (1, 0))
    for task in waiting:
        task.cancel()
    if ledger._access.writer._task is not None:
        ledger._access.writer._task.cancel()


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_a_cancelled_caller_leaves_no_half_done_write(ledger: Ledger, turns: int) -> None:
    await machine_in(ledger, MachineState.RESERVED)
    task = asyncio.create_task(ledger.take(A, new_job()))
    for _ in range(turns):
        await asyncio.sleep(0)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await ledger.note("pool", "demo", "after")

    rows = [entry.to_state for entry in await ledger.journal(subject="7")]
    states = [job.state for job in await ledger.jobs()]
    assert (rows, states) in (([], []), (["taken", "assigned"], [JobState.ASSIGNED]))


async def test_closing_finishes_what_was_asked_for(ledger: Ledger, url, keys, clock) -> None:
    writes = [asyncio.create_task(ledger.note("pool", "demo", "note")) for _ in range(10)]
    await asyncio.sleep(0)

    await ledger.aclose()
    await asyncio.gather(*writes)

    with pytest.raises(LedgerError, match="closed"):
        await ledger.note("pool", "demo", "late")
    again = await Ledger.open(url, keys, clock)
    assert len(await again.journal()) == 10
    await again.aclose()


@SQLITE
async def test_a_full_disk_is_an_error_of_ours_and_passes(ledger: Ledger) -> None:
    def limit_pages(pages: int) -> None:
        @sa.event.listens_for(ledger._access.engine.sync_engine, "begin")
        def on_begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    await machine_in(ledger, MachineState.RESERVED)
    limit_pages(1)
    with pytest.raises(LedgerError, match="full"):
        await ledger.keep_answer(A, b"x" * 1_000_000)
    limit_pages(1_000_000)

    await ledger.keep_answer(A, b"x" * 1_000_000)

    assert [len(raw) for _, raw in await ledger.unread_answers()] == [1_000_000]


async def test_a_ledger_of_one_gitlab_becomes_one_of_several_and_back(in_database: In) -> None:
    job, machine, back = await in_database(_of_several_and_back)

    assert tuple(job) == (7, "gitlab", 7, "fr-aaaaaaaaaaaa")
    assert tuple(machine) == ("gitlab",)
    assert tuple(back) == (7, "fr-aaaaaaaaaaaa")


def _of_several_and_back(connection: sa.Connection) -> tuple[Any, Any, Any]:
    migrate.upgrade(connection, "0001")
    connection.execute(
        sa.text(
            "INSERT INTO machines (machine_id, pool, host, state, state_since, vcpu, memory_mib, disk_mib,"
            " image_digest, created_at, boots, room_held, manager_known, reason)"
            " VALUES ('fr-aaaaaaaaaaaa', 'p', 'h', 'busy', 1, 1, 1, 1, 'd', 1, 1, true, true, '')"
        )
    )
    connection.execute(
        sa.text(
            "INSERT INTO jobs (job_id, pool, machine_id, state, state_since, name, project_id, project_path,"
            " taken_at, attempts, trace_bytes, reason)"
            " VALUES (7, 'p', 'fr-aaaaaaaaaaaa', 'running', 1, 'build', 1, 'g/a', 1, 1, 0, '')"
        )
    )

    migrate.upgrade(connection)
    job = connection.execute(sa.text("SELECT job_id, gitlab, gitlab_job_id, machine_id FROM jobs")).one()
    machine = connection.execute(sa.text("SELECT gitlab FROM machines")).one()
    migrate.downgrade(connection, "0001")
    back = connection.execute(sa.text("SELECT job_id, machine_id FROM jobs")).one()
    return job, machine, back
