"""What every test has: asyncio as the one event loop, short tracebacks, and one verdict for one commit.

What a shell runs in its background ignores Ctrl-C; so would all that a test starts, and ends that way.
A traceback with the locals of every frame, structlog's way where nothing is configured, can take longer than
a test waits. Hypothesis would fail an example that takes more than 0.2 s, and try other ones each time.
"""

from __future__ import annotations

import signal

import hypothesis
import pytest
import structlog

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("search", hypothesis.settings.get_profile("same"), derandomize=False)
hypothesis.settings.load_profile("same")

structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
