"""Brings together who tells and who measures: one place that the service hands around."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from firerunner.connecting import Connections
from firerunner.control import Controller, KnownPools
from firerunner.expiring import watch_tokens
from firerunner.gate import Gate
from firerunner.gitlab.measured import Call
from firerunner.intake import Hook
from firerunner.ledger import Ledger, MachineRecord
from firerunner.measuring import Measuring, expect, fleet_samples, place_samples, watch_loop
from firerunner.serving import Served
from firerunner.settings import Settings
from firerunner.telemetry import Metrics, Sample
from firerunner.telemetry import catalogue as its
from firerunner.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Shown:
    """What is looked at when Prometheus asks."""

    settings: Callable[[], Settings]
    """Those in force."""
    controller: Callable[[], Controller | None]
    """The one of this process, while it leads."""
    gate: Gate
    doors: dict[str, Served]
    connections: Connections


class Observing:
    """Metrics always; traces where an endpoint is set."""

    def __init__(self, settings: Settings, pools: KnownPools, log: Any) -> None:
        self.metrics = Metrics()
        self.measuring = Measuring(
            self.metrics, lambda name: name in pools and pools[name].warm.keeps_any, self._now
        )
        self.tracing: Tracing | None = None
        self._settings = settings
        self._log = log
        self._ledger: Ledger | None = None

    def _now(self) -> float:
        assert self._ledger is not None  # noqa: S101  (nothing is told before it is open)
        return self._ledger.clock()

    async def watch(self, ledger: Ledger, stack: AsyncExitStack) -> None:
        """From now on. What is still to be sent at the end is sent when the stack is closed."""
        self._ledger = ledger
        ledger.show_to(self.measuring)
        endpoint = self._settings.telemetry.traces.endpoint
        if endpoint is None:
            return
        from firerunner.telemetry.otlp import Otlp  # noqa: PLC0415  (20 MB that nobody needs without)

        instance = f"{os.uname().nodename}-{os.getpid()}"
        otlp = Otlp(endpoint, instance, self._dropped, self._log)
        self.tracing = Tracing(otlp.add, self._now)
        ledger.show_to(self.tracing)
        sending = asyncio.create_task(otlp.run(), name="traces")
        stack.push_async_callback(_cancelled, sending)

    def _dropped(self, spans: int) -> None:
        self.metrics.count(its.SPANS_LOST, by=spans)

    def show(self, shown: Shown, stack: AsyncExitStack) -> None:
        """Read what is shown whenever Prometheus asks, and look at the loop and at tokens now and then."""
        settings = self._settings
        expect(self.metrics, settings.asking_pools(), [host.name for host in settings.hosts])
        self.metrics.read_at_scrape(lambda: _samples(shown))
        works = (
            watch_loop(self.metrics),
            watch_tokens(
                lambda: [gitlab.name for gitlab in shown.settings().gitlab],
                shown.connections.rest_if_any,
                self.metrics,
                self._log,
            ),
        )
        for work in works:
            stack.push_async_callback(_cancelled, asyncio.create_task(work))

    # What is told by calls

    def heard(self, gitlab: str, call: Call) -> None:
        """A call to a GitLab is over."""
        self.measuring.heard(gitlab, call)
        if self.tracing is not None and call.endpoint != "rest":  # those come in a thread, and are no job's
            self.tracing.heard(gitlab, call)

    def drove(self, operation: str, machine: MachineRecord, seconds: float, *, failed: bool) -> None:
        """A driver's call is over."""
        self.measuring.drove(operation, machine, seconds, failed=failed)
        if self.tracing is not None:
            self.tracing.drove(operation, machine, seconds, failed=failed)

    def hooked(self, hook: Hook) -> None:
        """A hook has come that may mean work."""
        if self.tracing is not None:
            self.tracing.hooked(hook.gitlab, hook.project_id)


def _samples(shown: Shown) -> Iterator[Sample]:
    controller, settings = shown.controller(), shown.settings()
    yield its.LEADER, (), float(controller is not None)
    yield its.GATE_HELD, (), shown.gate.held_asks()
    for name, door in shown.doors.items():
        if door.certificate_until is not None:
            yield its.CERTIFICATE, (name,), door.certificate_until
    yield from place_samples({"state": settings.state_dir, "images": settings.image_store})
    if controller is not None:
        yield from fleet_samples(controller.shows.standing(), controller.events_waiting)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
