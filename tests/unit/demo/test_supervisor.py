"""The service of a demo or a test does not outlive it, however that ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from firerunner.demo import supervisor

WAIT_S = 20.0

PARENT = """
import asyncio, sys
from pathlib import Path
from firerunner.demo.supervisor import Supervisor

class Sleeps(Supervisor):
    command = ["sleep", "600"]

async def main():
    service = Sleeps(Path("config"), Path(sys.argv[1]), restart_after_s=600)
    service.start()
    while service.pid is None:
        await asyncio.sleep(0.01)
    print(service.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_service_ends_when_who_started_it_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # From the program that arms the signal to the one that gets it: its name tells.
        _until(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == "sleep")
        parent.kill()

    _until(lambda: not supervisor._is_running(pid))


def _until(look: object) -> None:
    deadline = time.monotonic() + WAIT_S
    while not look():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)
