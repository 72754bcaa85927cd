"""Restoring a machine: what the keeper says to a QEMU that was started with `-incoming defer`.

It blocks, because it comes before all else: loading asyncio takes longer than QEMU does to start and to
restore, and the guest boots on meanwhile. Sources: as `control`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from typing import Any, Final

from firerunner.machines.qemu.launch import Vmm

DEADLINE_S: Final = 20.0
"""For each answer of QEMU; it takes a few hundredths of a second."""

SHARED_MEMORY: Final = {"capability": "x-ignore-shared", "state": True}
"""The memory is a file that both sides have; it is not part of the stream."""


class WakeFailed(Exception):
    """QEMU could not restore the machine, and was ended; the text says at which step."""


def wake(vmm: Vmm, devices: int, line: bytes) -> bytes:
    """Restore the machine and write the line that its guest waits for. Raises `WakeFailed`.

    Returns what was read of QEMU's words beyond what was waited for.
    """
    step = "it says nothing"
    qmp = _Qmp(vmm.qmp)
    try:
        qmp.await_key("QMP")
        for step, arguments in (
            ("qmp_capabilities", {}),
            ("migrate-set-capabilities", {"capabilities": [SHARED_MEMORY]}),
        ):
            qmp.execute(step, arguments)
        step = "getfd"
        # Opened anew: the place where it is read is not to be that of other machines' keepers.
        own = os.open(f"/proc/self/fd/{devices}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            qmp.execute(step, {"fdname": "devices"}, own)
        finally:
            os.close(own)
        step = "migrate-incoming"
        qmp.execute(step, {"uri": "fd:devices"})
        qmp.await_event("RESUME")
        step = "writing to the guest's console"
        os.write(-1 if vmm.console_input is None else vmm.console_input, line)
    except (OSError, ValueError) as error:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(vmm.pidfd, signal.SIGKILL)
        os.waitpid(vmm.pid, 0)
        raise WakeFailed(f"a saved state was not restored: {step}: {error}") from error
    vmm.qmp.settimeout(None)
    return qmp.unread


class _Qmp:
    """QMP, blocking. Raises OSError or ValueError for all that goes wrong."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(DEADLINE_S)
        self._sock = sock
        self.unread = b""

    def execute(self, command: str, arguments: dict[str, Any], fd: int | None = None) -> None:
        line = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        socket.send_fds(self._sock, [line], [] if fd is None else [fd])
        self.await_key("return")

    def await_key(self, key: str) -> None:
        """Pass over events."""
        while key not in (message := self._next()):
            if "error" in message:
                raise ValueError(message["error"].get("desc"))

    def await_event(self, name: str) -> None:
        while self._next().get("event") != name:
            pass

    def _next(self) -> dict[str, Any]:
        while b"\n" not in self.unread:
            data = self._sock.recv(65536)
            if not data:
                raise ConnectionResetError("QEMU has ended")
            self.unread += data
        line, _, self.unread = self.unread.partition(b"\n")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("QEMU does not speak QMP")
        return message
