"""Having a keeper forked and giving it its order: the moment at which a machine comes to be."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final, NamedTuple

from firerunner.errors import BootFailed, HostUnusable
from firerunner.machines.qemu import order, processes
from firerunner.machines.qemu.checks import CHECK_REMEDY, find_program
from firerunner.machines.qemu.order import Saved

START_TIMEOUT_S: Final = 90.0
"""Longer than a keeper itself waits for anything (`watch`)."""

END_TIMEOUT_S: Final = 5.0
MAX_COMPLAINT_BYTES: Final = 2000


def program(name: str) -> str:
    """Its path. Raises `HostUnusable`."""
    path = find_program(name)
    if path is None:
        raise HostUnusable(f"{name} is not installed", remedy=CHECK_REMEDY)
    return path


class _Server(NamedTuple):
    process: subprocess.Popen[bytes]
    socket: socket.socket
    stderr: int
    """A file in memory."""


class _Killed(Exception):
    """The fork server was killed with this order in its hands."""


class ForkServer:
    """The one of this controller (`forkserver`). It runs from the first order on; one that died is replaced.

    Calls may come from several threads.
    """

    def __init__(self, state_dir: Path) -> None:
        self._name = processes.fork_server_name(state_dir)
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def give_order(self, ordered: order.Order) -> None:
        """Returns when the machine runs. Raises `BootFailed` or `HostUnusable`."""
        try:
            answer = self._given(ordered)
        except _Killed:  # before it forked, or its keeper died, too: another one has nothing in its way
            try:
                answer = self._given(ordered)
            except _Killed as error:
                raise HostUnusable(f"keepers cannot be started: {error}", remedy=CHECK_REMEDY) from error
        failed = answer.get("failed")
        if failed and answer.get("host"):
            raise HostUnusable(f"{ordered.machine_id} could not be started: {failed}", remedy=CHECK_REMEDY)
        if failed:
            raise BootFailed(
                f"{ordered.machine_id}: {failed}",
                remedy=f"QEMU's last words: {answer.get('stderr') or 'none'}",
            )

    def close(self) -> None:
        """End it, if it runs. Keepers and machines go on."""
        with self._lock:
            if self._server is not None:
                self._forget(self._server)

    def _given(self, ordered: order.Order) -> dict[str, Any]:
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                self._have_forked(theirs, ordered.saved)
            return self._answer(ours, ordered)

    def _have_forked(self, channel: socket.socket, saved: Saved | None) -> None:
        fds = [channel.fileno(), *(() if saved is None else (saved.memory, saved.devices))]
        with self._lock:
            if self._server is not None:
                try:
                    socket.send_fds(self._server.socket, [b"\0"], fds)
                except OSError:  # somebody has killed it
                    self._forget(self._server)
                else:
                    return
            self._server = self._start()
            socket.send_fds(self._server.socket, [b"\0"], fds)

    def _start(self) -> _Server:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stderr = os.memfd_create("stderr")
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-m", processes.FORK_SERVER_MODULE, self._name],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd="/",
                env={"PATH": os.defpath, "LANG": "C.UTF-8"},
                start_new_session=True,
            )
        return _Server(process, ours, stderr)

    def _answer(self, channel: socket.socket, ordered: order.Order) -> dict[str, Any]:
        channel.settimeout(START_TIMEOUT_S)
        said = b""
        try:
            channel.sendall(order.to_json(ordered).encode())
            channel.shutdown(socket.SHUT_WR)
            said = b"".join(iter(lambda: channel.recv(65536), b""))
        except TimeoutError as error:
            raise BootFailed(
                f"the keeper of {ordered.machine_id} did not report within {START_TIMEOUT_S:.0f} s",
                remedy="Is the computer overloaded? Lower the host's capacity.",
            ) from error
        except OSError:  # it is gone, and has said nothing
            pass
        if not said:
            self._raise_if_ended()
            return {"failed": "the keeper died while it started"}
        answer: dict[str, Any] = json.loads(said)
        return answer

    def _raise_if_ended(self) -> None:
        with self._lock:
            server = self._server
            if server is None:
                return
            try:
                code = server.process.wait(1.0)
            except subprocess.TimeoutExpired:
                return
            size = os.fstat(server.stderr).st_size
            said = os.pread(server.stderr, MAX_COMPLAINT_BYTES, max(0, size - MAX_COMPLAINT_BYTES))
            self._forget(server)
        if code < 0:
            raise _Killed(f"the fork server was ended by signal {-code}")
        complaint = said.decode("utf-8", "replace").strip() or f"exit status {code}"
        raise HostUnusable(f"keepers cannot be started: {complaint}", remedy=CHECK_REMEDY)

    def _forget(self, server: _Server) -> None:
        self._server = None
        server.socket.close()
        try:
            server.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
        os.close(server.stderr)
