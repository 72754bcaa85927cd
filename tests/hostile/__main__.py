"""`python -m tests.hostile`: each scene in a process of its own; the last line is one JSON object."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

from firerunner.demo.leftovers import processes_of
from tests.hostile.report import COUNTED, is_clean, last_line
from tests.hostile.unsafe import CHOICES

MODES = ("relay", "uplink")
LINE_BYTES = 4 * 1024 * 1024
UNWIND_S = 90.0

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
APART = (*DIES_WITH_US, "unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child")
"""Processes of its own, which all end with it, and it with us; with `--net` networks of its own too."""


async def scene(mode: str, given: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Play one scene, and look from outside at what it has left. Raises RuntimeError."""
    command = [sys.executable, "-m", "tests.hostile.scene", "--mode", mode, "--seed", str(given.seed)]
    command += ["--directory", str(directory), *(["--quick"] if given.quick else [])]
    command += ["--switch-off", given.switch_off] if given.switch_off else []
    command += ["--tries", given.tries] if given.tries else []
    root = os.geteuid() == 0
    apart = (*APART, *(["--net"] if mode == "uplink" else [])) if root else (*DIES_WITH_US, "--")
    playing = await asyncio.create_subprocess_exec(
        *apart, *command, stdout=PIPE, limit=LINE_BYTES, env={**os.environ, "TMPDIR": str(directory)}
    )
    assert playing.stdout is not None
    last = ""
    try:
        async for line in playing.stdout:
            last = line.decode().rstrip()
            if not last.startswith("{"):
                print(last, flush=True)
        await playing.wait()
    finally:
        if playing.returncode is None:
            await _end(playing)
    if playing.returncode != 0 or not last.startswith("{"):
        raise RuntimeError(f"the {mode} scene has failed with {playing.returncode}")
    outcome: dict[str, Any] = json.loads(last)
    outcome["wrong"]["leaked"] += [f"process {pid}" for pid in processes_of(directory)]
    outcome["wrong"]["leaked"] += [f"file {each}" for each in directory.glob("firerunner-*")]
    return outcome


async def _end(playing: asyncio.subprocess.Process) -> None:
    """Ask the scene itself, which is below `unshare`, to clear up; without it all of it is killed."""
    children = Path(f"/proc/{playing.pid}/task/{playing.pid}/children")
    with contextlib.suppress(OSError):
        for pid in children.read_text().split() or [str(playing.pid)]:
            os.kill(int(pid), 15)
    try:
        async with asyncio.timeout(UNWIND_S):
            await playing.wait()
    except TimeoutError:
        playing.kill()
        await playing.wait()


async def run(given: argparse.Namespace) -> int:
    """All scenes, one after another; 0 only if nothing is wrong."""
    modes = list(given.mode or MODES)
    if os.geteuid() != 0 and "uplink" in modes:
        print("uplink: left out, only root can make the networks around a host", flush=True)
        modes.remove("uplink")
    print(f"seed {given.seed}", flush=True)
    scenes = []
    for mode in modes:
        directory = Path(tempfile.mkdtemp(prefix="firerunner-hostile-"))
        directory.chmod(0o711)
        try:
            scenes.append(await scene(mode, given, directory))
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    line = last_line(scenes) | {"seed": given.seed, "modes": modes}
    for each in line["wrong"]:
        print(f"wrong: {each}", flush=True)
    print(", ".join(f"{name} {line[name]}" for name in ("tried", *COUNTED)), flush=True)
    print(json.dumps(line), flush=True)
    return 0 if is_clean(line) else 1


def main() -> int:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the order")
    parser.add_argument("--quick", action="store_true", help="fewer jobs, smaller floods")
    parser.add_argument("--mode", action="append", choices=MODES, help="only this one")
    parser.add_argument("--tries", help="only these of the hostile job, separated by commas; shorter still")
    parser.add_argument("--switch-off", choices=CHOICES, help="a safeguard, to see that it is noticed")
    given = parser.parse_args()

    async def until_told() -> int:
        task = asyncio.current_task()
        assert task is not None
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(sign, task.cancel)
        return await run(given)

    try:
        return asyncio.run(until_told())
    except asyncio.CancelledError:
        print("broken off, and cleared up", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
