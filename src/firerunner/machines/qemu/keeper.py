"""The keeper: one small process per machine, the parent of its QEMU, which outlives the controller.

Forked by the fork server, it reads an order from its channel, detaches itself, and answers there with one
line of JSON once QEMU runs or has failed to. Then it keeps the machine: relays its connections, writes its
console log, ends it when its lifetime is over, and writes down why it ended. It ends with its QEMU, and
QEMU ends with it. It does not clean up: that is the driver's part.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from firerunner.machines.qemu import order as orders
from firerunner.machines.qemu import priority, processes, statefile
from firerunner.machines.qemu.confine import bound_open_files, forbid_new_privileges
from firerunner.machines.qemu.ending import why_ended
from firerunner.machines.qemu.launch import LaunchFailed, Vmm, launch
from firerunner.machines.qemu.order import Order
from firerunner.machines.qemu.statefile import Phase
from firerunner.machines.qemu.watch import watch

LOG_FILE = "keeper.log"

MAX_FILE_BYTES = 4 * 1024 * 1024
"""No file that a keeper writes gets longer, whatever the guest provokes."""


def become_keeper(channel: int, *saved: int) -> None:
    """What is left of the calling process's life. `channel`: a socket that brings the order, until its end,
    and takes the answer. `saved`: memory and devices of the order's saved state, if it has one."""
    order = orders.from_json(b"".join(iter(lambda: os.read(channel, 65536), b"")).decode())
    if order.saved is not None:
        memory, devices = saved
        order = order._replace(saved=order.saved._replace(memory=memory, devices=devices))
    keeper = Keeper(order, channel)
    try:
        _detach(Path(order.directory))
    except OSError as error:
        keeper.fail(str(error), host=True)
    else:
        keeper.run()


def _detach(directory: Path) -> None:
    processes.take_command_line(processes.keeper_command(sys.executable, directory))
    os.setsid()
    os.umask(0o077)
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(directory / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for fd, source in ((0, nothing), (1, log), (2, log)):
        os.dup2(source, fd)
    os.close(nothing)
    os.close(log)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, resource.RLIM_INFINITY))
    bound_open_files()
    forbid_new_privileges()
    priority.rank(priority.STARTING_NICE)


class Keeper:
    """One machine's keeper, after it has detached."""

    def __init__(self, order: Order, report: int) -> None:
        self._order = order
        self._report: int | None = report
        self._directory = Path(order.directory)
        self._state: dict[str, Any] = {
            "machine_id": order.machine_id,
            "boot_id": statefile.boot_id(),
            "keeper": statefile.own_process(),
            "vmm": None,
            "detail": "",
            "stderr": "",
            **order.facts,
        }

    def run(self) -> None:
        try:
            self._write(Phase.STARTING)
            for path in self._order.cgroup_procs:
                Path(path).write_text(str(os.getpid()))
            vmm = launch(self._order)
        except (LaunchFailed, OSError) as error:
            self.fail(str(error), host=True)
            return
        self._state["vmm"] = statefile.own_process(vmm.pid)
        self._keep(vmm)

    def fail(self, detail: str, **more: str | bool) -> None:
        """The machine is not to be; tell the driver."""
        with contextlib.suppress(OSError):  # a full disk: then only the answer tells it
            self._write(Phase.FAILED, detail=detail, **more)
        self._answer(failed=detail, **more)

    def _keep(self, vmm: Vmm) -> None:
        end = asyncio.run(watch(self._order, vmm, self._running, self._booted))
        detail = why_ended(
            end.status,
            told=end.told,
            shutdown=end.shutdown,
            memory_limit_mib=self._order.memory_limit_mib if self._out_of_memory() else None,
            stderr=end.stderr,
        )
        with contextlib.suppress(OSError):  # a full disk: then the driver tells it from the processes
            self._write(Phase.ENDED if end.ran else Phase.FAILED, detail=detail, stderr=end.stderr)
        if not end.ran:
            self._answer(failed=detail, stderr=end.stderr)

    def _running(self) -> None:
        self._write(Phase.RUNNING, since=time.time())
        self._answer()

    def _booted(self) -> None:
        """The gate has answered the guest."""
        with contextlib.suppress(OSError):
            self._write(self._state["phase"], booted=True)

    def _out_of_memory(self) -> bool:
        """True if the kernel has killed a process of the machine's cgroup (both cgroup versions)."""
        for procs in self._order.cgroup_procs:
            for name in ("memory.events", "memory.oom_control"):
                try:
                    text = Path(procs).with_name(name).read_text()
                except OSError:
                    continue
                counts = dict(line.split() for line in text.splitlines())
                if counts.get("oom_kill", "0") != "0":
                    return True
        return False

    def _write(self, phase: str, **facts: str | float | bool) -> None:
        self._state |= {"phase": phase, **facts}
        statefile.write(self._directory, self._state)

    def _answer(self, **facts: str | bool) -> None:
        """Tell the one who started us, who may be gone by now."""
        if self._report is None:
            return
        report, self._report = self._report, None
        try:
            os.write(report, json.dumps(facts).encode())
        except OSError:
            pass
        finally:
            os.close(report)
