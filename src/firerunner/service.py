"""The service: its doors, its ledger, and the loop of standing by and leading."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path

import structlog
from starlette.types import ASGIApp

from firerunner.app import image_store, log_file, make_state_dir, open_ledger
from firerunner.briefing import Briefing
from firerunner.clock import MOVED_S, SteadyClock
from firerunner.connecting import Connections
from firerunner.control import Context, Controller, KnownPools, Stop
from firerunner.control.hearsay import Hearer, Teller
from firerunner.control.leadership import Leadership
from firerunner.control.lock import only_controller
from firerunner.control.sizing import Sizing
from firerunner.errors import FireRunnerError, HostUnusable, LedgerError, NotLeader, SettingsError
from firerunner.gate import Gate, GateEvent, Limits, create_gate
from firerunner.hosting import HostDriver, driver_of
from firerunner.intake import Door, Gatherer, Hook
from firerunner.leading import Term, hearing, last_answers, new_holder
from firerunner.listening import listen
from firerunner.observing import Observing, Shown
from firerunner.operating import operations
from firerunner.readiness import readiness, standing_by
from firerunner.reloading import Reloader
from firerunner.restoring import keep_states
from firerunner.serving import WEB_BOUNDS, Certificate, Served, served
from firerunner.settings import PoolSettings, Settings
from firerunner.telemetry import configure_logs
from firerunner.telemetry.catalogue import TERMS
from firerunner.web import Access, Acts, Dashboard, Readiness, create_api, create_web

SHARED_RECHECK_S = 1.0
"""How often a gate whose controller does not lead looks whether a job has come for a guest that asks."""
AGAIN_S = 1.0
_FORCED = 75
"""Exit status after a second signal (sysexits' EX_TEMPFAIL): start again and it goes on."""


async def run_service(settings: Settings, config: Path | None = None) -> None:
    """Run until a signal says stop; `config` is read anew at SIGHUP.

    Raises FireRunnerError if it cannot start.
    """
    make_state_dir(settings.state_dir)
    alone = only_controller(settings.state_dir) if not _is_shared(settings) else nullcontext()
    with alone:
        async with AsyncExitStack() as stack:
            await _Service(settings, config, stack).run()


def _is_shared(settings: Settings) -> bool:
    """True if other controllers may work with the same ledger."""
    return not settings.database_url.startswith("sqlite")


class _Service:
    """One run of the service; what is opened is closed by the stack, in reverse order."""

    def __init__(self, settings: Settings, config: Path | None, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._log = structlog.get_logger("firerunner")
        self._reloader = Reloader(config, settings, self._apply, self._log)
        self._images = image_store(settings)
        self._pools = KnownPools(settings.asking_pools())
        self._observing = Observing(settings, self._pools, self._log)
        seen = self._observing
        self._connections = Connections(stack, seen.measuring.counted_gitlab, seen.heard)
        self._sized: dict[str, PoolSettings] = {}
        self._doors: dict[str, Served] = {}
        self._access = Access()
        self._term: Term | None = None
        self._stop = asyncio.Event()
        self._how = Stop.HAND_OVER
        self._asks_left: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        settings, seen = self._reloader.settings, self._observing.measuring
        web_socket = listen("web", settings.listen.web)
        gate_socket = listen("gate", settings.listen.gate)
        https = settings.listen.gate_https
        https_socket = listen("gate-https", https) if https is not None else None
        ledger = self._ledger = await self._stack.enter_async_context(open_ledger(settings))
        await self._observing.watch(ledger, self._stack)
        await self._connections.configure(settings)
        self._leadership = Leadership(ledger, new_holder(os.uname().nodename, os.getpid()), self._log)
        self._drivers = await self._open_drivers(settings)
        self._briefing = Briefing(lambda: self._reloader.settings, self._pools.get, self._drivers)
        gate = self._gate = create_gate(
            ledger=ledger,
            gitlab=lambda name: self._connections(name).jobs,
            facts=self._briefing.guest_facts,
            notify=self._on_gate,
            clock=ledger.clock,
            count=seen.counted_gate,
            sights=seen,
            limits=Limits(recheck_s=SHARED_RECHECK_S) if _is_shared(settings) else None,
        )
        self._teller = Teller(ledger, self._spoken_elsewhere, self._log)
        self._door = Door(Gatherer(self._on_hook).hook, seen.counted_hook)
        self._door.configure(settings.webhook, settings.gitlab)
        self._access.configure(settings.api, settings.webhook)
        gate.open()
        self._listen_to_signals()  # before anybody can see that we serve, and reload us
        await self._serve(settings, gate, gate_socket, web_socket, https_socket)
        shown = Shown(
            settings=lambda: self._reloader.settings,
            controller=lambda: self._term.controller if self._term else None,
            gate=gate,
            doors=self._doors,
            connections=self._connections,
        )
        self._observing.show(shown, self._stack)
        for work in (self._reloader.run(), self._teller.run(), self._watch_clock()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._ended)
            self._stack.callback(task.cancel)
        gc.collect()
        gc.freeze()  # what is loaded stays: else each full collection takes a tenth of a second to look at it
        self._log.info(
            "serving",
            gitlab=[gitlab.url for gitlab in settings.gitlab],
            pools=[pool.name for pool in settings.pools],
            gate=settings.listen.gate,
            web=settings.listen.web,
            pid=os.getpid(),
        )
        await self._prepare(self._drivers)
        states = asyncio.create_task(keep_states(self._settings_now, self._drivers, self._images))
        states.add_done_callback(self._ended)
        self._stack.callback(states.cancel)
        await self._lead_until_stopped()
        gate.close()
        await asyncio.gather(*self._asks_left)
        await self._leadership.resign()
        self._log.info("stopped")

    async def _serve(
        self,
        settings: Settings,
        gate: Gate,
        gate_socket: socket.socket,
        web_socket: socket.socket,
        https_socket: socket.socket | None,
    ) -> None:
        """Open the doors: the gate, and webhook, operator API and dashboard."""
        web, dashboard = self._make_web()
        await self._stack.enter_async_context(served(gate, gate_socket))
        if https_socket is not None:
            certificate = Certificate.of(settings.listen.gate_cert_file, settings.listen.gate_key_file)
            door = served(gate, https_socket, certificate=certificate)
            self._doors["gate_https"] = await self._stack.enter_async_context(door)
        certificate = Certificate.of(settings.listen.web_cert_file, settings.listen.web_key_file)
        door = served(web, web_socket, bounds=WEB_BOUNDS, certificate=certificate)
        self._doors["web"] = await self._stack.enter_async_context(door)
        self._stack.push_async_callback(dashboard.aclose)  # first, so that no viewer holds up the end

    def _make_web(self) -> tuple[ASGIApp, Dashboard]:
        counted = self._observing.measuring.counted_api
        what = operations(
            *(lambda: self._reloader.settings, self._ledger, self._pools, lambda: self._term),
            *(self._drivers, self._connections.rest_if_any, self._gate.looks),
        )
        acts = Acts(what)
        api = create_api(what, acts, self._access, counted)
        dashboard = Dashboard(what, acts, self._access, counted)
        web = create_web(self._door.endpoint, self._readiness, self._observing.metrics, api, dashboard)
        return web, dashboard

    async def _lead_until_stopped(self) -> None:
        while not self._stop.is_set():
            try:
                await self._lead()
            except NotLeader as error:
                self._log.warning("another leads now; standing by", error=str(error))
            except LedgerError as error:
                self._log.error("cannot lead now", error=str(error))
                await asyncio.sleep(AGAIN_S)

    async def _lead(self) -> None:
        """Stand by, then lead, until a stop is done. Raises NotLeader when another leads."""
        winning = asyncio.create_task(self._leadership.won(force=not _is_shared(self._reloader.settings)))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({winning, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not winning.done():
                return
            term = self._begin_term(await winning)
            self._observing.metrics.count(TERMS)
        finally:
            for task in (winning, stopping):
                task.cancel()
        try:
            await term.sizing.restore()
            self._term = term
            if self._stop.is_set():
                term.stop(self._how)
            await term.run()
        except NotLeader:
            left = asyncio.create_task(last_answers(term))
            self._asks_left.add(left)
            left.add_done_callback(self._asks_left.discard)
            raise
        finally:
            self._term = None

    def _begin_term(self, epoch: int) -> Term:
        settings, ours = self._reloader.settings, self._ledger.acting_as(epoch)
        self._sized = {}
        self._pools.declare(settings.asking_pools())
        context = Context(
            ledger=ours,
            drivers=self._drivers,
            gitlab=self._connections,
            egress=self._briefing.egress,
            pools=self._pools,
            resolve_image=self._images.resolve,
            gate_address=settings.listen.gate,
            metrics=self._observing.metrics,
            drove=self._observing.drove,
            started=self._observing.measuring.started,
            clock=self._ledger.clock,
            log=self._log,
            wake_gate=self._gate.wake,
            assure=self._leadership.assure,
            rest=self._connections.rest_if_any,
        )
        controller = Controller(context, keep_s=settings.database.keep_days * 86_400)
        sizing = Sizing(
            *(ours, self._connections.rest, self._templates, self._set_sized_pools),
            *(self._ledger.clock, self._log),
        )
        hearer = Hearer(ours, self._ledger.clock, self._on_gate, self._on_hook)
        hearing(context, self._gate, hearer)
        return Term(context, controller, sizing, hearer, self._leadership, self._log)

    def _on_gate(self, event: GateEvent) -> None:
        if self._term is not None:
            self._term.controller.observe_gate(event)
        else:
            self._teller.gate_event(event)

    def _spoken_elsewhere(self) -> Mapping[str, tuple[float, float]]:
        """What the leader has to know of our guests; nothing while that is us."""
        return self._gate.spoken() if self._term is None else {}

    def _on_hook(self, hook: Hook) -> None:
        self._observing.hooked(hook)
        if self._term is not None:
            self._term.controller.wake(hook)
            self._term.sizing.on_hook(hook)
        else:
            self._teller.hook(hook)

    async def _readiness(self) -> Readiness:
        term = self._term
        if term is None:
            return await standing_by(self._leadership.leader, self._ledger)
        return await readiness(term.controller, term.sizing, self._ledger)

    async def _watch_clock(self) -> None:
        """A computer's clock that is moved does not move our deadlines; who reads our times has to know."""
        told_s = 0.0
        while True:
            await asyncio.sleep(10.0)
            clock = self._ledger.clock
            moved_s = clock.moved_s() if isinstance(clock, SteadyClock) else 0.0
            if abs(moved_s - told_s) > MOVED_S:
                told_s = moved_s
                self._log.warning(
                    "the computer's clock has been moved; times here do not follow", by_s=moved_s
                )

    def _ended(self, task: asyncio.Task[None]) -> None:
        """None of these ends by itself while the service runs."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a part of the service has ended", error=str(error), exc_info=error)

    def _settings_now(self) -> Settings:
        return self._reloader.settings

    def _templates(self) -> list[PoolSettings]:
        return self._reloader.settings.templates()

    def _set_sized_pools(self, pools: list[PoolSettings]) -> None:
        """The pools of sized tags, which come and go with the jobs that ask for them."""
        self._sized = {pool.name: pool for pool in pools}
        self._set_pools(self._reloader.settings)

    def _set_pools(self, settings: Settings) -> None:
        pools = self._sized | settings.asking_pools()
        if self._term is not None:
            self._term.controller.set_pools(pools)
        else:
            self._pools.declare(pools)

    async def _apply(self, settings: Settings) -> None:
        """Put new settings into force. Raises FireRunnerError before anything has changed."""
        await self._connections.configure(settings)
        self._door.configure(settings.webhook, settings.gitlab)
        self._access.configure(settings.api, settings.webhook)
        self._set_pools(settings)
        self._log_as(settings)
        for door in self._doors.values():
            try:
                door.renew_certificate()
            except SettingsError as error:  # no reason to keep tokens and pools of yesterday
                self._log.error("a new certificate is not taken, the old one stays", error=str(error))

    def _log_as(self, settings: Settings) -> None:
        if settings.log == self._reloader.settings.log:
            return
        try:
            configure_logs(settings.log.level, settings.log.format, log_file(settings))
        except FireRunnerError as error:  # as with a certificate
            self._log.error("the new log file is not taken, the old one stays", error=str(error))

    async def _open_drivers(self, settings: Settings) -> dict[str, HostDriver]:
        """By host name. This computer has to be in order; another that is not is waited for while it runs."""
        drivers: dict[str, HostDriver] = {}
        for host in settings.hosts:
            driver = drivers[host.name] = driver_of(settings, host)
            self._stack.push_async_callback(driver.aclose)
        for host in settings.hosts:
            if host.driver == "qemu":
                for problem in await drivers[host.name].check():
                    raise HostUnusable(f"host {host.name}: {problem.what}", remedy=problem.remedy)
        return drivers

    async def _prepare(self, drivers: Mapping[str, HostDriver]) -> None:
        """Check images and find out how guests run, so that the first job does not wait for it."""
        settings = self._reloader.settings
        wanted = {(host.name, pool.image) for pool in settings.pools for host in settings.hosts_of(pool)}
        for host, name in sorted(wanted):
            try:
                by = await drivers[host].prepare((await asyncio.to_thread(self._images.verify, name)).files)
                self._log.info("guests run by", host=host, image=name, vmm=by)
            except FireRunnerError as error:
                self._log.error("an image or a host is not ready", image=name, host=host, error=str(error))

    def _listen_to_signals(self) -> None:
        stopping = False

        def stop(how: Stop) -> None:
            nonlocal stopping
            if stopping:
                self._log.warning("ended by a second signal; the next start goes on from the ledger")
                os._exit(_FORCED)
            stopping = True
            self._log.info("stopping", how=how.value)
            self._how = how
            self._stop.set()
            if self._term is not None:
                self._term.stop(how)

        loop = asyncio.get_running_loop()
        for number, how in (
            (signal.SIGTERM, Stop.HAND_OVER),
            (signal.SIGINT, Stop.FINISH),
            (signal.SIGQUIT, Stop.FINISH),
        ):
            loop.add_signal_handler(number, stop, how)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.request)
