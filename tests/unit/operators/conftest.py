"""A configuration whose ledger has a day's work in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.unit.operators.operators_given import HeldClock, configured, days_work, ledger_of, settings_of


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configured(tmp_path)


@pytest.fixture
def worked(config: Path) -> Path:
    async def fill() -> None:
        clock = HeldClock()
        async with ledger_of(settings_of(config), clock) as ledger:
            await days_work(ledger, clock)

    asyncio.run(fill())
    return config
