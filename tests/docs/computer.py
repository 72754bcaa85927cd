"""The computer on which the pages' commands are run: a folder instead of `/`, the real service and program
in it, and fakes for GitLab and for a host.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml

from firerunner.app import image_store, open_ledger
from firerunner.demo.stage import free_port
from firerunner.images import RunnerFacts, RunnerKind
from firerunner.ledger import JobState, Ledger, MachineState, NewJob
from firerunner.settings import load_settings
from tests.docs.forked import install
from tests.docs.pages import ROOT, Block
from tests.unit.images.image_given import ZEROS, fill, manifest_of

MACHINE, JOB = "fr-0123456789ab", 4711
PATIENCE_S = 90.0
LOCAL_MODES = 3
"""Where tcgetattr(3) has them."""
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a block."""

    status: int
    output: str


@dataclass
class Computer:
    """Everything that the commands use. Made by `computer`."""

    folder: Path
    neighbours: dict[str, Any]
    web: int = field(default_factory=free_port)
    gate: int = field(default_factory=free_port)
    _service: socket.socket | None = None

    @property
    def etc(self) -> Path:
        return self.folder / "etc" / "firerunner"

    @property
    def config(self) -> Path:
        """Beside, not in, the place that the first page writes to."""
        return self.folder / "firerunner.yaml"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.folder / "home"),
            "TERM": "xterm",
            "NO_COLOR": "1",
            "FIRERUNNER_CONFIG": str(self.config),
        }

    def prepare(self) -> None:
        """Files that a page takes for granted."""
        for name in ("bin", "home", "tmp", "work", "etc/firerunner"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "work" / "deploy").symlink_to(ROOT / "deploy")
        install(self.folder / "bin" / "firerunner", self.folder / "call")
        self._write_config()
        shutil.copy(self.config, self.folder / "work" / "firerunner.yaml")

    def _write_config(self) -> None:
        secret = {
            name: str(self.etc / name)
            for name in ("webhook-secret", "webhook-signing-token", "api-read", "api-operate", "small.token")
        }
        there = f"http://127.0.0.1:{self.gate}"
        size = {"vcpu": 4, "memory_mib": 8192, "disk_mib": 65536}
        said = {
            "state_dir": str(self.folder / "state"),
            "gitlab": {
                "url": self.neighbours["gitlab"],
                "clone_url": "http://gitlab.test",
                "api_token": self.neighbours["api_token"],
                "webhook_secret_file": secret["webhook-secret"],
                "webhook_signing_token_file": secret["webhook-signing-token"],
            },
            "api": {"read_token_file": secret["api-read"], "operate_token_file": secret["api-operate"]},
            "listen": {"web": f"127.0.0.1:{self.web}", "gate": f"127.0.0.1:{self.gate}"},
            "hosts": [
                {"name": "local"} | size,
                {"name": "kvm-1", "driver": "flintlock", "address": self.neighbours["host"]}
                | {"insecure": True, "gate_url": there}
                | size,
            ],
            "pools": [
                {"name": "small", "runner_token_file": secret["small.token"], "image": "default"}
                | {"memory_mib": 1024, "start": "cold", "hosts": ["local"]}
            ],
        }
        self.config.write_text(yaml.safe_dump(said))

    def start(self) -> None:
        """The service runs from now on, with an image and with a day behind it."""
        if self._service is not None:
            return
        for name in ("webhook-secret", "api-read", "api-operate"):
            self._make_secret(name)
        if not (self.etc / "webhook-signing-token").exists():
            self._run('echo "whsec_$(openssl rand -base64 32)" > /etc/firerunner/webhook-signing-token')
        if not (self.etc / "small.token").exists():
            self._run("firerunner gitlab setup --project group/app --tag small=small --webhook-url "
                      "https://firerunner.example.com/webhook")  # fmt: skip
        asyncio.run(self._remember())
        self._service = self._call(["firerunner", "serve"], self.folder / "service.log")
        self._wait_for_ready()

    def stop(self) -> None:
        """The service ends."""
        if self._service is not None:
            self._service.close()

    def run(self, block: Block) -> Ran:
        """The commands of a block, in one shell, as it stands on the page."""
        return self._run("\n".join(step.command for step in block.steps))

    def here(self, text: str) -> str:
        """The page's names for things, as they are here."""
        web = f"http://127.0.0.1:{self.web}"
        places = {
            "https://gitlab.example.com": self.neighbours["gitlab"],
            "https://firerunner.example.com": web,
            "http://127.0.0.1:8080": web,
            "/etc/firerunner": str(self.etc),
            "/var/lib/firerunner": str(self.folder / "state"),
            "/tmp": str(self.folder / "tmp"),
            "HOST": "kvm-1",
            "MACHINE": MACHINE,
        }
        names = "|".join(map(re.escape, places))
        return re.sub(rf"(?<![\w/.])(?:{names})(?!\w)", lambda found: places[found[0]], text)

    def _make_secret(self, name: str) -> None:
        if not (self.etc / name).exists():
            self._run(f"openssl rand -hex 32 > /etc/firerunner/{name}")

    def _run(self, script: str) -> Ran:
        """In a terminal of its own, where whoever is asked for a token or for consent gives it."""
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (50, 200))
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", self.here(script)],
            cwd=self.folder / "work", env=self.environment, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        try:
            output = self._converse(ours)
            return Ran(process.wait(PATIENCE_S), output)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(ours)

    def _converse(self, terminal: int) -> str:
        shown, answered = "", 0
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    shown += os.read(terminal, 65_536).decode()
                except OSError:  # the other end is closed
                    return _STYLE.sub("", shown).replace("\r\n", "\n")
            new = shown[answered:]
            if "Token for" in new and not termios.tcgetattr(terminal)[LOCAL_MODES] & termios.ECHO:
                os.write(terminal, f"{self.neighbours['api_token']}\n".encode())
                answered = len(shown)
            elif "[y/N]: " in new:
                os.write(terminal, b"y\n")
                answered = len(shown)
        raise TimeoutError(f"not over after {PATIENCE_S:.0f} s; until then:\n{shown}")

    def _call(self, words: list[str], log: Path) -> socket.socket:
        """The program without a shell around it; it ends when what is returned is closed."""
        there = socket.socket(socket.AF_UNIX)
        there.connect(str(self.folder / "call"))
        told = json.dumps([words, self.environment, str(self.folder / "work")]).encode()
        with log.open("wb") as file, Path(os.devnull).open("rb") as nothing:
            files = [nothing.fileno(), file.fileno(), file.fileno()]
            socket.send_fds(there, [len(told).to_bytes(4, "big") + told], files)
        return there

    def _wait_for_ready(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with (
                contextlib.suppress(OSError),
                contextlib.closing(HTTPConnection(f"127.0.0.1:{self.web}")) as http,
            ):
                http.request("GET", "/ready")
                if b"GitLab had no job" in http.getresponse().read():
                    return
            time.sleep(0.1)
        raise TimeoutError((self.folder / "service.log").read_text())

    async def _remember(self) -> None:
        """An image, and a job that has failed on a machine that is gone."""
        settings = load_settings(self.config)
        store = image_store(settings)
        async with store.stage() as stage:
            fill(stage / "image")
            runner = RunnerFacts(kind=RunnerKind.OFFICIAL, version="19.4.0", sha256=ZEROS)
            facts = {"runner": runner, "info": {"executor": "shell"}, "production": True}
            manifest = manifest_of(stage / "image", "default").model_copy(update=facts)
            image = store.commit(stage / "image", manifest)
        async with open_ledger(settings) as ledger:
            await _a_day(ledger, settings.pools[0].resources, image.manifest.digest)


async def _a_day(ledger: Ledger, size: Any, digest: str) -> None:
    await ledger.reserve(MACHINE, "small", "local", size, digest)
    for state in (MachineState.CREATING, MachineState.BOOTING, MachineState.WAITING):
        await ledger.move_machine(MACHINE, state)
    await ledger.begin_ask(MACHINE)
    await ledger.keep_answer(MACHINE, b'{"id":4711,"token":"job-token"}')
    await ledger.take(MACHINE, NewJob(JOB, "job-token", "hello", 1, "group/app", 3600))
    await ledger.end_ask(MACHINE, "job")
    await ledger.deliver(JOB)
    await ledger.move_job(JOB, JobState.RUNNING)
    await ledger.move_job(JOB, JobState.ENDED, gitlab_status="failed")
    await ledger.move_machine(MACHINE, MachineState.RETIRING, reason="its job ended (failed)")
    await ledger.release_room(MACHINE)
    await ledger.move_machine(MACHINE, MachineState.GONE)


@contextlib.contextmanager
def computer(folder: Path) -> Iterator[Computer]:
    """A computer whose processes end with the block, and with this process."""
    with contextlib.ExitStack() as stack:
        ready = stack.enter_context(_helper("tests.docs.neighbours", str(folder / "gitlab")))
        made = Computer(folder, json.loads(ready))
        made.prepare()
        stack.enter_context(_helper("tests.docs.forked", str(folder / "call"), **made.environment))
        stack.callback(made.stop)
        yield made


@contextlib.contextmanager
def _helper(module: str, *words: str, **environment: str) -> Iterator[str]:
    """A module as a program; its first line, when it is ready. It ends when its standard input does."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=ROOT, env=os.environ | environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout.readline()
    finally:
        process.stdin.close()
        process.wait(PATIENCE_S)
        process.stdout.close()
