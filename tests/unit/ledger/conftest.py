"""A ledger in a temporary file or in a PostgreSQL server, with a clock that the test holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from ledger_given import In
from tests.postgresql import PostgreSQL, running

from firerunner.ledger import Keyring, Ledger
from firerunner.ledger.database import create_engine, parse_url


@dataclass
class HeldClock:
    """Stands still until the test moves it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def keys(tmp_path: Path) -> Keyring:
    return Keyring.load_or_create(tmp_path / "state" / "keys")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    with running() as server:
        yield server


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
async def url(anyio_backend: str, request: pytest.FixtureRequest, file_url: str) -> str:
    if request.param == "sqlite":
        return file_url
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return await server.fresh_url()


@pytest.fixture
async def in_database(anyio_backend: str, url: str) -> In:
    async def run(work: Callable[[sa.Connection], Any]) -> Any:
        engine = create_engine(parse_url(url), foreign_keys=False)
        async with engine.begin() as connection:
            result = await connection.run_sync(work)
        await engine.dispose()
        return result

    return run


@pytest.fixture
async def ledger(anyio_backend: str, url: str, keys: Keyring, clock: HeldClock) -> AsyncIterator[Ledger]:
    opened = await Ledger.open(url, keys, clock)
    yield opened
    await opened.aclose()
