"""The life of a running machine: console, control socket, relay and watchdog, until QEMU has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from firerunner.machines.qemu.cgroups import give_way
from firerunner.machines.qemu.console import ConsoleLog, Spotter
from firerunner.machines.qemu.control import Control, ControlLost
from firerunner.machines.qemu.launch import Vmm
from firerunner.machines.qemu.order import Order
from firerunner.machines.qemu.outward import Outward
from firerunner.machines.qemu.priority import RUNNING_NICE, rank
from firerunner.machines.qemu.relay import Relay
from firerunner.machines.qemu.resolver import Resolver

SHOW_DEADLINE_S = 20.0
"""QEMU answers on its control socket within 0.1 s; a restored guest in under a second."""

TEMPLATE_DEADLINE_S = 60.0
"""A guest that is to be saved gets there in 3 s by emulation, if the computer has nothing else to do."""

RANK_AGAIN_S = 0.2
STDERR_TAIL_BYTES = 8192
READ_BYTES = 65536

TEMPLATE, RESTORED, NAMED, BOOTED = MARKS = (b"template", b"restored", b"named", b"booted")
"""Words of the guest's first two stages (`say` in `guest/files`)."""


class End(NamedTuple):
    """What was seen of QEMU's end."""

    status: int
    told: str
    shutdown: str
    stderr: str
    ran: bool


async def watch(order: Order, vmm: Vmm, running: Callable[[], None], booted: Callable[[], None]) -> End:
    """Serve the machine until QEMU has ended; call `running` once QEMU answers, and the guest if it is
    restored, or once a template has been saved; `booted` when the guest has come to the gate."""
    return await _Watch(order, vmm, running, booted).until_end()


class _Watch:
    def __init__(
        self,
        order: Order,
        vmm: Vmm,
        running: Callable[[], None],
        booted: Callable[[], None],
    ) -> None:
        self._vmm = vmm
        self._running = running
        self._booted: Callable[[], None] | None = booted
        self._lifetime_s = order.max_lifetime_s
        self._cgroup_procs = order.cgroup_procs
        rules = order.uplink
        outward = Outward(rules.domains, rules.resolves) if rules is not None else None
        self._relay = Relay(vmm.listening, order.listeners)
        if vmm.uplink is not None and outward is not None:
            self._relay.lead_outward(vmm.uplink, outward)
        self._resolver = Resolver(vmm.resolver, order.names, outward)
        self._console = ConsoleLog(Path(order.directory))
        self._saved = order.saved
        self._woken_by = order.woken_by.encode()
        self._marks = Spotter(*MARKS)
        self._stderr = b""
        self._told = ""
        self._shutdown = ""
        self._shown = False
        self._gives_way = False
        self._awaited = ""

    async def until_end(self) -> End:
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(self._vmm.pidfd, ended.set)
        self._read_all(self._vmm.console, self._hear_guest)
        self._read_all(self._vmm.stderr, self._keep_stderr)
        loop.add_signal_handler(signal.SIGTERM, self._kill, "stopped with its keeper by SIGTERM")
        loop.call_later(self._lifetime_s, self._kill, "lifetime over")
        saving = self._saved is not None and not self._saved.restore
        deadline_s = TEMPLATE_DEADLINE_S if saving else SHOW_DEADLINE_S
        loop.call_later(deadline_s, self._kill_unless_shown, deadline_s)
        talking = asyncio.create_task(self._talk())
        resolving = asyncio.create_task(self._resolver.serve())
        await ended.wait()
        _, status = os.waitpid(self._vmm.pid, 0)  # noqa: ASYNC222  # it has ended
        await talking
        resolving.cancel()
        await self._relay.aclose()
        for fd, take in ((self._vmm.console, self._hear_guest), (self._vmm.stderr, self._keep_stderr)):
            loop.remove_reader(fd)
            while _read_some(fd, take):
                pass
        self._console.close()
        stderr = self._stderr.decode("utf-8", "replace")
        if self._saved is not None and not self._shown and self._marks.complaint:
            self._told = f"{self._awaited}: {self._marks.complaint}"
        return End(status, self._told, self._shutdown, stderr, self._shown)

    def _kill(self, reason: str) -> None:
        self._told = self._told or reason
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            signal.pidfd_send_signal(self._vmm.pidfd, signal.SIGKILL)

    def _kill_unless_shown(self, deadline_s: float) -> None:
        if not self._shown:
            who = "VMM did not answer on its control socket" if self._saved is None else self._awaited
            self._kill(f"{who} in {deadline_s:.0f} s")

    def _read_all(self, fd: int, take: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)

        def readable() -> None:
            if not _read_some(fd, take):
                loop.remove_reader(fd)

        loop.add_reader(fd, readable)

    def _hear_guest(self, data: bytes) -> None:
        self._console.write(data)
        if self._booted is None:
            return
        self._marks.look(data)
        if not self._gives_way and self._marks.seen(NAMED).is_set():
            self._gives_way = True
            give_way(self._cgroup_procs)
            self._rank()
        if self._marks.seen(BOOTED).is_set():
            self._booted()
            self._booted = None

    def _rank(self) -> None:
        if not rank(RUNNING_NICE):
            asyncio.get_running_loop().call_later(RANK_AGAIN_S, self._rank)

    def _keep_stderr(self, data: bytes) -> None:
        self._stderr = (self._stderr + data)[-STDERR_TAIL_BYTES:]

    async def _talk(self) -> None:
        """Bring the machine to where it runs; then hear events until QEMU ends."""
        control = Control(self._vmm.qmp, self._hear_event)
        listening = asyncio.create_task(control.listen())
        try:
            await self._bring_up(control)
        except ControlLost as error:
            if self._saved is not None:
                self._kill(f"{self._awaited}: {error}")
        except OSError as error:  # of `running`
            self._kill(f"the keeper cannot write its state: {error.strerror}")
        try:
            await listening
        except Exception as error:  # a QEMU that a guest has broken into may say anything
            print(f"control socket: {error!r}", file=sys.stderr, flush=True)

    async def _bring_up(self, control: Control) -> None:
        await control.execute("qmp_capabilities")
        if self._saved is not None and self._saved.restore:
            self._awaited = "a saved state was not restored"
            await control.restore(self._saved.devices)
            if self._vmm.console_input is None:
                raise ControlLost("nobody reads the console")
            with contextlib.suppress(BrokenPipeError):  # QEMU's end is seen below
                os.write(self._vmm.console_input, self._woken_by)
            self._awaited = "a restored guest did not answer"
            await control.unless_lost(self._marks.seen(RESTORED).wait(), self._awaited)
        elif self._saved is not None:
            self._awaited = "the guest did not come to where it is to be saved"
            await control.unless_lost(self._marks.seen(TEMPLATE).wait(), self._awaited)
            self._awaited = "the state was not written"
            await control.save(self._saved.devices)
            self._told = "saved"
        self._running()
        self._shown = True
        if self._told:
            await control.quit()

    def _hear_event(self, message: dict[str, Any]) -> None:
        if message["event"] == "SHUTDOWN":
            self._shutdown = message["data"]["reason"]


def _read_some(fd: int, take: Callable[[bytes], None]) -> bool:
    """Take what is there. False at the end of the pipe, or when a drained pipe has nothing more."""
    try:
        data = os.read(fd, READ_BYTES)
    except BlockingIOError:
        return False
    take(data)
    return bool(data)
