"""The web application over a ledger in a temporary file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from web_given import Given, opened


@pytest.fixture
async def given(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Given]:
    ledger = await opened(tmp_path)
    it = Given(ledger)
    it.configure()
    yield it
    await it.dashboard.aclose()
    await ledger.aclose()
