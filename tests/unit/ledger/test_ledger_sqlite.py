"""SQLite on the loop's thread: who waits for another process's write lets the loop go on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from firerunner.errors import LedgerError
from firerunner.ledger import Keyring, Ledger
from firerunner.ledger.sqlite import LoopEngine

pytestmark = pytest.mark.anyio


async def test_a_write_waits_for_another_process_and_the_loop_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = await Ledger.open(f"sqlite:///{path}", Keyring.load_or_create(tmp_path / "key"), lambda: 1.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(ledger.note("host", "a", "noted"))

    for _ in range(50):
        await asyncio.sleep(0.005)  # a loop that waits for the lock itself would not come back here
    assert not writing.done()
    other.execute("COMMIT")
    await writing

    assert [entry.event for entry in await ledger.journal(subject="a")] == ["noted"]
    other.close()
    await ledger.aclose()


async def test_readers_do_not_wait_for_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = await Ledger.open(f"sqlite:///{path}", Keyring.load_or_create(tmp_path / "key"), lambda: 1.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    assert await ledger.machines() == []

    other.execute("ROLLBACK")
    other.close()
    await ledger.aclose()


async def test_who_waits_too_long_for_another_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.db"
    ledger = await Ledger.open(f"sqlite:///{path}", Keyring.load_or_create(tmp_path / "key"), lambda: 1.0)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("firerunner.ledger.sqlite.BUSY_TIMEOUT_MS", 1)

    with pytest.raises(LedgerError, match="database is locked"):
        await ledger.note("host", "a", "noted")

    other.execute("ROLLBACK")
    other.close()
    await ledger.note("host", "a", "noted after all")
    assert [entry.event for entry in await ledger.journal(subject="a")] == ["noted after all"]
    await ledger.aclose()


async def test_a_commit_that_fails_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"
    ledger = await Ledger.open(f"sqlite:///{path}", Keyring.load_or_create(tmp_path / "key"), lambda: 1.0)
    other = await Ledger.open(f"sqlite:///{path}", Keyring.load_or_create(tmp_path / "key"), lambda: 1.0)
    monkeypatch.setattr("firerunner.ledger.sqlite.BUSY_TIMEOUT_MS", 1)

    @sa.event.listens_for(ledger._access.engine.sync_engine, "commit")
    def on_commit(_: object) -> None:
        raise OSError("no power")

    with pytest.raises(LedgerError, match="no power"):
        await ledger.note("host", "a", "noted")

    await other.note("host", "a", "noted by another")
    assert [entry.event for entry in await other.journal(subject="a")] == ["noted by another"]
    await ledger.aclose()
    await other.aclose()


async def test_more_readers_than_connections_are_kept_do_not_stop_the_loop(tmp_path: Path) -> None:
    engine = LoopEngine.of_file(tmp_path / "file", foreign_keys=True)
    async with contextlib.AsyncExitStack() as stack:
        readers = [await stack.enter_async_context(engine.connect()) for _ in range(40)]
        found = [(await reader.exec_driver_sql("SELECT 1")).scalar() for reader in readers]

    assert found == [1] * 40
    await engine.dispose()


async def test_a_commit_whose_caller_is_cancelled_is_finished_before_the_connection_is_used_again(
    tmp_path: Path,
) -> None:
    engine = LoopEngine.of_file(tmp_path / "file", foreign_keys=True)
    writing = engine.execution_options(firerunner_writes=True)
    async with writing.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE noted (at INTEGER)")

    async def note() -> None:
        async with writing.connect() as connection:
            await connection.exec_driver_sql("INSERT INTO noted VALUES (1)")
            asyncio.get_running_loop().call_soon(task.cancel)
            await connection.commit()

    task = asyncio.create_task(note())
    with pytest.raises(asyncio.CancelledError):
        await task

    async with writing.begin() as connection:
        assert (await connection.exec_driver_sql("SELECT count(*) FROM noted")).scalar() == 1
    await engine.dispose()


async def test_a_file_that_is_no_database_is_a_ledger_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is not a database" * 100)

    with pytest.raises(LedgerError, match="the ledger's database failed"):
        await Ledger.open(f"sqlite:///{path}", Keyring.load_or_create(tmp_path / "key"), lambda: 1.0)


async def test_a_second_handle_in_a_process_costs_the_first_one_no_lock(
    anyio_backend: str, file_url: str, keys: Keyring
) -> None:
    """Whoever closes a file loses its locks on it, and then reads a log that has been thrown away."""
    first = await Ledger.open(file_url, keys, lambda: 1.0)
    await first.lead("first")
    second = await Ledger.open(file_url, keys, lambda: 1.0)
    await second.aclose()
    other = """
import asyncio, sys
from firerunner.ledger import Keyring, Ledger

async def lead():
    ledger = await Ledger.open(sys.argv[1], Keyring.generate(), lambda: 1.0)
    await ledger.lead("other", force=True)
    await ledger.aclose()

asyncio.run(lead())
"""
    for _ in range(2):  # the first one that closes last throws the log away
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", other, file_url], check=True)

    lease = await first.lease()
    assert lease is not None
    assert lease.holder == "other"
    await first.aclose()
