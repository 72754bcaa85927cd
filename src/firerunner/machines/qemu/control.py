"""The keeper's talk with QEMU over its control socket: QMP, one command at a time.

A QEMU that a guest has broken into may say anything; what makes no sense raises `ControlLost`, and the
machine goes on without it. Source: QEMU docs/interop/qmp-spec.rst and qemu-qmp-ref.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")
POLL_S = 0.005

SHARED_MEMORY: Final = {"capability": "x-ignore-shared", "state": True}
"""The memory is a file that both sides have; it is not part of the stream."""


class ControlLost(Exception):
    """QEMU has ended, or does not speak QMP; or it refused a command, which the text says."""


class Control:
    """One connection. `event` is called with each event that arrives."""

    def __init__(self, sock: socket.socket, event: Callable[[dict[str, Any]], None]) -> None:
        self._sock = sock
        self._event = event
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._lost = asyncio.Event()
        self._resumed = asyncio.Event()

    async def listen(self) -> None:
        """Read until QEMU ends. Never raises for what it says."""
        try:
            reader, writer = await asyncio.open_connection(sock=self._sock.dup())
            try:
                async for line in reader:
                    self._heard(json.loads(line))
            finally:
                writer.close()
        finally:
            self._lost.set()

    def _heard(self, message: dict[str, Any]) -> None:
        if "return" in message or "error" in message:
            self._answers.put_nowait(message)
        elif "event" in message:
            if message["event"] == "RESUME":
                self._resumed.set()
            self._event(message)

    async def execute(self, command: str, fd: int | None = None, **arguments: Any) -> Any:
        """What QEMU returns. `fd`: a descriptor that goes along. Raises `ControlLost`."""
        line = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        try:
            socket.send_fds(self._sock, [line], [] if fd is None else [fd])
        except OSError as error:
            raise ControlLost(f"{command}: {error.strerror}") from error
        answer = await self.unless_lost(self._answers.get(), command)
        if "error" in answer:
            raise ControlLost(f"{command}: {answer['error'].get('desc')}")
        return answer["return"]

    async def unless_lost(self, awaited: Coroutine[Any, Any, T], what: str) -> T:
        """What is awaited, if it comes before QEMU's end. Raises `ControlLost`."""
        wanted = asyncio.ensure_future(awaited)
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({wanted, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not wanted.done():
                raise ControlLost(f"{what}: QEMU has ended")
            return wanted.result()
        finally:
            wanted.cancel()
            lost.cancel()

    async def save(self, devices: int) -> None:
        """Write the state of all but the memory to `devices`. The guest stands still afterwards."""
        await self.execute("migrate-set-capabilities", capabilities=[SHARED_MEMORY])
        await self.execute("getfd", devices, fdname="devices")
        await self.execute("migrate", uri="fd:devices")
        while (status := (await self.execute("query-migrate")).get("status")) != "completed":
            if status in {"failed", "cancelled"}:
                raise ControlLost("QEMU could not write the state")
            await asyncio.sleep(POLL_S)

    async def restore(self, devices: int) -> None:
        """Have a QEMU that was started with `-incoming defer` go on from `devices`; returns when it does."""
        await self.execute("migrate-set-capabilities", capabilities=[SHARED_MEMORY])
        # Opened anew: the place where it is read is not to be that of other machines' keepers.
        own = os.open(f"/proc/self/fd/{devices}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self.execute("getfd", own, fdname="devices")
        finally:
            os.close(own)
        await self.execute("migrate-incoming", uri="fd:devices")
        await self.unless_lost(self._resumed.wait(), "migrate-incoming")

    async def quit(self) -> None:
        """End QEMU."""
        with contextlib.suppress(ControlLost):
            await self.execute("quit")
