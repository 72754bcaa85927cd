"""The service as a process of its own, started again when it dies, as an init system does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

import httpx

from firerunner.demo.leftovers import processes_of
from firerunner.errors import FireRunnerError

START_S = 30.0
FINISH_S = 120.0
"""A finish after a death in mid-ask: a minute to be sure that no job was lost, and 45 s for its records."""
POLL_S = 0.1

_DIES_WITH_US = ("setpriv", "--pdeathsig", "INT", "--")
"""Should we be killed, the service finishes: nobody else would ever stop it (setpriv(1))."""


class Supervisor:
    """Starts the service and, like an init system, starts it again when it dies."""

    def __init__(self, config: Path, log: Path, restart_after_s: float) -> None:
        self._config = config
        self._log = log
        self._restart_after_s = restart_after_s
        self._process: Process | None = None
        self._running: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def command(self) -> list[str]:
        """How to start it by hand."""
        return [sys.executable, "-m", "firerunner", "serve", "--config", str(self._config)]

    @property
    def pid(self) -> int | None:
        """The running service's process id."""
        return self._process.pid if self._process and self._process.returncode is None else None

    def start(self) -> None:
        """Keep one service running from now on."""
        self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *_DIES_WITH_US,
                    *self.command,
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=log,
                    start_new_session=True,
                )
            await self._process.wait()
            self.restarts += 1
            await asyncio.sleep(self._restart_after_s)

    async def until_healthy(self, url: str) -> None:
        """Return when the service answers. Raises FireRunnerError with the end of its log if it does not."""
        deadline = time.monotonic() + START_S
        async with httpx.AsyncClient(trust_env=False) as http:
            while time.monotonic() < deadline and not self.restarts:
                with contextlib.suppress(httpx.HTTPError):
                    if (await http.get(url)).status_code == 200:
                        return
                await asyncio.sleep(POLL_S)
        raise FireRunnerError(
            f"the service does not start; it says:\n{self.log_tail(2000)}", remedy="See `firerunner doctor`"
        )

    def log_tail(self, size: int) -> str:
        """The last `size` characters of the service's log."""
        return self._log.read_text(errors="replace")[-size:] if self._log.exists() else ""

    async def finish(self) -> None:
        """Ask whoever serves to finish, and wait until it has; kill what does not.

        That may be a service which somebody has started by hand after killing ours.
        """
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        for sign in (signal.SIGINT, signal.SIGKILL):
            deadline = time.monotonic() + FINISH_S
            for pid in self._serving():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            while self._serving() and time.monotonic() < deadline:
                await asyncio.sleep(POLL_S)
        if self._process is not None and not _is_running(self._process.pid):
            await self._process.wait()

    def _serving(self) -> list[int]:
        """Processes that serve this configuration."""
        return [pid for pid in processes_of(self._config) if _is_running(pid)]


def _is_running(pid: int) -> bool:
    """False for a zombie, which only waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
