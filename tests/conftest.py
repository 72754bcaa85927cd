"""What every test has: asyncio as the one event loop, and tracebacks without the locals of every frame.

Printing those, structlog's way where nothing is configured, can take longer than a test waits.
"""

from __future__ import annotations

import pytest
import structlog

structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
