"""The keeper: one small process per machine, the parent of its QEMU, which outlives the controller.

`python -I -m firerunner.machines.qemu.keeper DIRECTORY` reads an order from standard input, detaches
itself, and prints one line of JSON once QEMU runs or has failed to. Then it keeps the machine: relays
its connections, writes its console log, ends it when its lifetime is over, and writes down why it
ended. It ends with its QEMU, and QEMU ends with it. It does not clean up: that is the driver's part.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from firerunner.machines.qemu import order as orders
from firerunner.machines.qemu import statefile
from firerunner.machines.qemu.confine import bound_open_files, forbid_new_privileges
from firerunner.machines.qemu.ending import why_ended
from firerunner.machines.qemu.launch import LaunchFailed, Vmm, launch
from firerunner.machines.qemu.order import Order
from firerunner.machines.qemu.statefile import Phase
from firerunner.machines.qemu.wake import WakeFailed, wake

LOG_FILE = "keeper.log"

MAX_STDERR_BYTES = 8192

MAX_FILE_BYTES = 4 * 1024 * 1024
"""No file that a keeper writes gets longer, whatever the guest provokes."""


def main(argv: list[str]) -> int:
    """Detach a keeper for the order on standard input, and report how its start went."""
    order = orders.from_json(sys.stdin.read())
    report_reader, report_writer = os.pipe()
    if os.fork():
        os.close(report_writer)
        report = b"".join(iter(lambda: os.read(report_reader, 65536), b""))
        sys.stdout.write(report.decode() or json.dumps({"failed": "the keeper died while it started"}))
        return 0
    os.close(report_reader)
    _detach(Path(order.directory))
    Keeper(order, report_writer).run()
    return 0


def _detach(directory: Path) -> None:
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
        self._write(Phase.STARTING)
        try:
            for path in self._order.cgroup_procs:
                Path(path).write_text(str(os.getpid()))
            vmm = launch(self._order)
        except (LaunchFailed, OSError) as error:
            self._write(Phase.FAILED, detail=str(error))
            self._answer(failed=str(error), host=True)
            return
        self._state["vmm"] = statefile.own_process(vmm.pid)
        saved, unread = self._order.saved, b""
        if saved is not None and saved.restore:
            try:
                unread = wake(vmm, saved.devices, self._order.woken_by.encode())
            except WakeFailed as error:
                said = os.read(vmm.stderr, MAX_STDERR_BYTES).decode("utf-8", "replace")
                self._write(Phase.FAILED, detail=str(error), stderr=said)
                self._answer(failed=str(error), stderr=said)
                return
        self._keep(vmm, unread)

    def _keep(self, vmm: Vmm, unread: bytes) -> None:
        # asyncio takes longer to load than all else together, and QEMU is starting meanwhile.
        import asyncio  # noqa: PLC0415

        from firerunner.machines.qemu.watch import watch  # noqa: PLC0415

        end = asyncio.run(watch(self._order, vmm, self._running, self._booted, unread))
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


if __name__ == "__main__":
    sys.exit(main(sys.argv))
