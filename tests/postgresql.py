"""A PostgreSQL server of the tests' own: Debian's programs, a directory of its own, a port on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

PASSWORD = "canary-database-password"
_ACCOUNT = "postgres"
_START_S = 60


@dataclass
class PostgreSQL:
    """Started by `running`; may be stopped, killed, frozen, and started again on the same data and port."""

    folder: Path
    port: int

    async def fresh_url(self) -> str:
        """The URL of a new and empty database."""
        name = f"ledger_{time.time_ns()}"
        connection = await asyncpg.connect(self._dsn("postgres"))
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return self._dsn(name)

    def _dsn(self, database: str) -> str:
        return f"postgresql://{_ACCOUNT}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns when it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        # With another output than the caller's: a pipe that the server keeps would never end.
        self._ctl("start", "-w", "-t", str(_START_S), "-l", str(self.folder / "log"), "-o", options)

    def stop(self, how: str = "fast") -> None:
        """`fast` breaks connections off; `immediate` is a crash."""
        self._ctl("stop", "-w", "-m", how)

    def freeze(self) -> None:
        """Every process of the server stands still."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """And goes on."""
        self._signal(signal.SIGCONT)

    def fill_disk(self) -> None:
        """None of its files can be written any more. It may end by that, as of a full disk (PANIC)."""
        self._each(_let_write_nothing)

    def empty_disk(self) -> None:
        """There is room again, and it is started again, as after `fill_disk` somebody has to."""
        if self.is_running:
            self.stop("immediate")
        self.start()

    def _signal(self, number: signal.Signals) -> None:
        self._each(lambda pid: os.kill(pid, number))

    def _each(self, act: Callable[[int], None]) -> None:
        """First the process that starts the others: they inherit. A session may end meanwhile."""
        first = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        act(first)
        for child in map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split()):
            with contextlib.suppress(ProcessLookupError):
                act(child)

    @property
    def is_running(self) -> bool:
        """As pg_ctl sees it."""
        return self._ctl("status", check=False) == 0

    def _ctl(self, *arguments: str, check: bool = True) -> int:
        return _run([str(_programs() / "pg_ctl"), "-D", str(self.folder / "data"), *arguments], check)


@contextlib.contextmanager
def running() -> Iterator[PostgreSQL]:
    """A fresh server, gone with its data afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="firerunner-postgresql-"))
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:  # the server refuses to run as root
            for path in (folder, secret):
                shutil.chown(path, _ACCOUNT)
        initdb = [str(_programs() / "initdb"), "-D", str(folder / "data"), "-U", _ACCOUNT, "-N", "-E", "UTF8"]
        _run([*initdb, "--locale=C", "-A", "scram-sha-256", f"--pwfile={secret}"], check=True)
        server = PostgreSQL(folder, _free_port())
        server.start()
        try:
            yield server
        finally:
            if server.is_running:
                server.thaw()
                server.stop("immediate")
    finally:
        shutil.rmtree(folder)


def _let_write_nothing(pid: int) -> None:
    if _run(["prlimit", f"--pid={pid}", "--fsize=0:"], check=False):
        os.kill(pid, 0)  # a process that is gone says so here
        raise AssertionError(f"the limit of process {pid} could not be set")


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    assert found, "PostgreSQL is missing: apt install postgresql"
    return found[-1].parent


def _run(command: list[str], check: bool) -> int:
    if os.geteuid() == 0:
        command = ["setpriv", f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--clear-groups", *command]
    done = subprocess.run(
        command,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.returncode


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
