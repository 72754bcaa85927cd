"""A ledger in a temporary file, with a clock that the test holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from firerunner.ledger import Keyring, Ledger


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


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'state' / 'ledger.db'}"


@pytest.fixture
async def ledger(anyio_backend: str, url: str, keys: Keyring, clock: HeldClock) -> AsyncIterator[Ledger]:
    opened = await Ledger.open(url, keys, clock)
    yield opened
    await opened.aclose()
