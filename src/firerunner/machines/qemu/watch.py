"""The life of a running machine: console, control socket, relay and watchdog, until QEMU has ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from firerunner.machines.qemu.console import ConsoleLog
from firerunner.machines.qemu.launch import Vmm
from firerunner.machines.qemu.order import Order
from firerunner.machines.qemu.outward import Outward
from firerunner.machines.qemu.relay import Relay
from firerunner.machines.qemu.resolver import Resolver

SHOW_DEADLINE_S = 20.0
"""QEMU answers on its control socket within 0.1 s; past this it hangs."""

STDERR_TAIL_BYTES = 8192
READ_BYTES = 65536


class End(NamedTuple):
    """What was seen of QEMU's end."""

    status: int
    told: str
    shutdown: str
    stderr: str
    ran: bool


async def watch(order: Order, vmm: Vmm, running: Callable[[], None]) -> End:
    """Serve the machine until QEMU has ended; call `running` once QEMU answers."""
    return await _Watch(order, vmm, running).until_end()


class _Watch:
    def __init__(self, order: Order, vmm: Vmm, running: Callable[[], None]) -> None:
        self._vmm = vmm
        self._running = running
        self._lifetime_s = order.max_lifetime_s
        rules = order.uplink
        outward = Outward(rules.domains, rules.resolves) if rules is not None else None
        self._relay = Relay(vmm.listening, order.listeners)
        if vmm.uplink is not None and outward is not None:
            self._relay.lead_outward(vmm.uplink, outward)
        self._resolver = Resolver(vmm.resolver, order.names, outward)
        self._console = ConsoleLog(Path(order.directory))
        self._stderr = b""
        self._told = ""
        self._shutdown = ""
        self._shown = False

    async def until_end(self) -> End:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._vmm.pidfd, ended.set)
        self._read_all(self._vmm.console, self._console.write)
        self._read_all(self._vmm.stderr, self._keep_stderr)
        loop.add_signal_handler(signal.SIGTERM, self._kill, "stopped with its keeper by SIGTERM")
        loop.call_later(self._lifetime_s, self._kill, "lifetime over")
        loop.call_later(SHOW_DEADLINE_S, self._kill_unless_shown)
        control = asyncio.create_task(self._control())
        resolving = asyncio.create_task(self._resolver.serve())
        await ended.wait()
        _, status = os.waitpid(self._vmm.pid, 0)  # noqa: ASYNC222  # it has ended
        await control
        resolving.cancel()
        await self._relay.aclose()
        for fd, take in ((self._vmm.console, self._console.write), (self._vmm.stderr, self._keep_stderr)):
            loop.remove_reader(fd)
            while _read_some(fd, take):
                pass
        self._console.close()
        stderr = self._stderr.decode("utf-8", "replace")
        return End(status, self._told, self._shutdown, stderr, self._shown)

    def _kill(self, reason: str) -> None:
        self._told = self._told or reason
        signal.pidfd_send_signal(self._vmm.pidfd, signal.SIGKILL)

    def _kill_unless_shown(self) -> None:
        if not self._shown:
            self._kill(f"VMM did not answer on its control socket in {SHOW_DEADLINE_S:.0f} s")

    def _read_all(self, fd: int, take: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)

        def readable() -> None:
            if not _read_some(fd, take):
                loop.remove_reader(fd)

        loop.add_reader(fd, readable)

    def _keep_stderr(self, data: bytes) -> None:
        self._stderr = (self._stderr + data)[-STDERR_TAIL_BYTES:]

    async def _control(self) -> None:
        """Talk QMP: JSON lines; a greeting, one command of ours, then events until QEMU ends."""
        reader, writer = await asyncio.open_connection(sock=self._vmm.qmp)
        try:
            async for line in reader:
                self._heard(json.loads(line), writer)
        except Exception as error:  # a QEMU that a guest has broken into may say anything
            print(f"control socket: {error!r}", file=sys.stderr, flush=True)
        finally:
            writer.close()

    def _heard(self, message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if "QMP" in message:
            writer.write(b'{"execute": "qmp_capabilities"}\n')
        elif "return" in message and not self._shown:
            try:
                self._running()
                self._shown = True
            except OSError as error:
                self._kill(f"the keeper cannot write its state: {error.strerror}")
        elif message.get("event") == "SHUTDOWN":
            self._shutdown = message["data"]["reason"]


def _read_some(fd: int, take: Callable[[bytes], None]) -> bool:
    """Take what is there. False at the end of the pipe, or when a drained pipe has nothing more."""
    try:
        data = os.read(fd, READ_BYTES)
    except BlockingIOError:
        return False
    take(data)
    return bool(data)
