"""Wires the packages together; the only place that knows them all."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import structlog

from firerunner.briefing import Briefing
from firerunner.connecting import Connections
from firerunner.control import Context, Controller, KnownPools, Stop
from firerunner.control.lock import only_controller
from firerunner.control.sizing import Sizing
from firerunner.errors import FireRunnerError, HostUnusable, LedgerError, SettingsError
from firerunner.gate import create_gate
from firerunner.hosting import HostDriver, driver_of
from firerunner.images import Store
from firerunner.intake import Door, Hook
from firerunner.ledger import Keyring, Ledger
from firerunner.listening import listen
from firerunner.machines.qemu import QemuDriver
from firerunner.readiness import readiness
from firerunner.reloading import Reloader
from firerunner.serving import WEB_BOUNDS, Certificate, Served, served
from firerunner.settings import PoolSettings, Settings
from firerunner.telemetry import Counters, set_log_level
from firerunner.web import create_web

LEASE_S = 30.0
_FORCED = 75
"""Exit status after a second signal (sysexits' EX_TEMPFAIL): start again and it goes on."""


async def run_service(settings: Settings, config: Path | None = None) -> None:
    """Run until a signal says stop; `config` is read anew at SIGHUP.

    Raises FireRunnerError if it cannot start.
    """
    make_state_dir(settings.state_dir)
    with only_controller(settings.state_dir):
        async with AsyncExitStack() as stack:
            await _Service(settings, config, stack).run()


class _Service:
    """One run of the service; what is opened is closed by the stack, in reverse order."""

    def __init__(self, settings: Settings, config: Path | None, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._log = structlog.get_logger("firerunner")
        self._counters = Counters()
        self._reloader = Reloader(config, settings, self._apply, self._log)
        self._connections = Connections(stack, self._counters.count_gitlab)
        self._sized: dict[str, PoolSettings] = {}
        self._doors: list[Served] = []

    async def run(self) -> None:
        settings, counters = self._reloader.settings, self._counters
        web_socket = listen("web", settings.listen.web)
        gate_socket = listen("gate", settings.listen.gate)
        https = settings.listen.gate_https
        https_socket = listen("gate-https", https) if https is not None else None
        ledger = await self._stack.enter_async_context(open_ledger(settings))
        await self._connections.configure(settings)
        holder = f"{os.uname().nodename}-{os.getpid()}-{time.time_ns()}"
        ours = ledger.acting_as(await ledger.lead(holder, LEASE_S, force=True))
        drivers = await self._drivers(settings)
        pools = KnownPools(settings.asking_pools())
        briefing = Briefing(lambda: self._reloader.settings, pools.get, drivers)
        context = Context(
            ledger=ours,
            drivers=drivers,
            gitlab=self._connections,
            egress=briefing.egress,
            pools=pools,
            resolve_image=image_store(settings).resolve,
            gate_address=settings.listen.gate,
            counters=counters,
            clock=time.time,
            log=self._log,
        )
        controller = self._controller = Controller(context, keep_s=settings.database.keep_days * 86_400)
        gate = create_gate(
            ledger=ledger,
            gitlab=lambda name: self._connections(name).jobs,
            facts=briefing.guest_facts,
            notify=controller.observe_gate,
            clock=time.time,
            count=counters.count_gate,
        )
        context.wake_gate = gate.wake
        context.spoke_at, context.heard_at = gate.spoke_at, gate.heard_at
        sizing = Sizing(
            ours,
            self._connections.rest,
            self._templates,
            self._set_sized_pools,
            time.time,
            self._log,
        )
        await sizing.restore()

        def wake(hook: Hook) -> None:
            controller.wake(hook)
            sizing.on_hook(hook)

        self._door = Door(wake, lambda outcome: counters.hooks.labels(outcome).inc())
        self._door.configure(settings.webhook, settings.gitlab)
        web = create_web(self._door.endpoint, lambda: readiness(controller, sizing, ledger), counters)
        await self._stack.enter_async_context(served(gate, gate_socket))
        if https_socket is not None:
            door = served(gate, https_socket, certificate=_gate_certificate(settings))
            self._doors.append(await self._stack.enter_async_context(door))
        door = served(web, web_socket, bounds=WEB_BOUNDS, certificate=_certificate(settings))
        self._doors.append(await self._stack.enter_async_context(door))
        for work in (self._keep_lease(ledger, holder), self._reloader.run(), sizing.run()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._ended)
            self._stack.callback(task.cancel)
        self._listen_to_signals(controller)
        self._log.info(
            "serving",
            gitlab=[gitlab.url for gitlab in settings.gitlab],
            pools=[pool.name for pool in settings.pools],
            gate=settings.listen.gate,
            web=settings.listen.web,
            pid=os.getpid(),
        )
        await self._prepare(drivers)
        await controller.run(on_started=gate.open)
        gate.close()
        with suppress(LedgerError):
            await ledger.resign(holder)
        self._log.info("stopped")

    def _ended(self, task: asyncio.Task[None]) -> None:
        """None of these ends by itself while the service runs."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a part of the service has ended", error=str(error), exc_info=error)

    def _templates(self) -> list[PoolSettings]:
        return self._reloader.settings.templates()

    def _set_sized_pools(self, pools: list[PoolSettings]) -> None:
        """The pools of sized tags, which come and go with the jobs that ask for them."""
        self._sized = {pool.name: pool for pool in pools}
        self._controller.set_pools(self._sized | self._reloader.settings.asking_pools())

    async def _apply(self, settings: Settings) -> None:
        """Put new settings into force. Raises FireRunnerError before anything has changed."""
        await self._connections.configure(settings)
        self._door.configure(settings.webhook, settings.gitlab)
        self._controller.set_pools(self._sized | settings.asking_pools())
        set_log_level(settings.log.level)
        for door in self._doors:
            try:
                door.renew_certificate()
            except SettingsError as error:  # no reason to keep tokens and pools of yesterday
                self._log.error("a new certificate is not taken, the old one stays", error=str(error))

    async def _drivers(self, settings: Settings) -> dict[str, HostDriver]:
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
        """Find out now how guests run, so that the first job does not wait for it."""
        settings = self._reloader.settings
        wanted = {(host.name, pool.image) for pool in settings.pools for host in settings.hosts_of(pool)}
        for host, name in sorted(wanted):
            try:
                by = await drivers[host].prepare(image_store(settings).resolve(name).files)
                self._log.info("guests run by", host=host, image=name, vmm=by)
            except FireRunnerError as error:
                self._log.error("an image or a host is not ready", image=name, host=host, error=str(error))

    async def _keep_lease(self, ledger: Ledger, holder: str) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                await ledger.lead(holder, LEASE_S)
            except LedgerError as error:
                self._log.error("the lease could not be renewed", error=str(error))

    def _listen_to_signals(self, controller: Controller) -> None:
        stopping = False

        def stop(how: Stop) -> None:
            nonlocal stopping
            if stopping:
                self._log.warning("ended by a second signal; the next start goes on from the ledger")
                os._exit(_FORCED)
            stopping = True
            self._log.info("stopping", how=how.value)
            controller.request_stop(how)

        loop = asyncio.get_running_loop()
        for number, how in (
            (signal.SIGTERM, Stop.HAND_OVER),
            (signal.SIGINT, Stop.FINISH),
            (signal.SIGQUIT, Stop.FINISH),
        ):
            loop.add_signal_handler(number, stop, how)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.request)


def _certificate(settings: Settings) -> Certificate | None:
    listen = settings.listen
    return Certificate(listen.web_cert_file, listen.web_key_file) if listen.web_cert_file else None


def _gate_certificate(settings: Settings) -> Certificate | None:
    listen = settings.listen
    return Certificate(listen.gate_cert_file, listen.gate_key_file) if listen.gate_cert_file else None


def make_state_dir(path: Path) -> None:
    """Make the state directory. Raises FireRunnerError with the remedy."""
    try:
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise FireRunnerError(
            f"cannot make the state directory {path}: {error.strerror}",
            remedy="Run as a user who may, or set `state_dir`",
        ) from error


@asynccontextmanager
async def existing_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger of a service that has run before; a look at it makes nothing. Raises FireRunnerError."""
    if not _has_ledger(settings):
        raise FireRunnerError(
            f"there is no ledger at {settings.database_url}",
            remedy="Has `firerunner serve` run with this --config?",
        )
    async with open_ledger(settings) as ledger:
        yield ledger


def _has_ledger(settings: Settings) -> bool:
    kind, _, path = settings.database_url.partition(":///")
    return kind != "sqlite" or Path(path).exists()


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger of these settings, made if it is not there, and up to date."""
    ledger = await Ledger.open(settings.database_url, Keyring.load_or_create(settings.key_file), time.time)
    try:
        yield ledger
    finally:
        await ledger.aclose()


def image_store(settings: Settings) -> Store:
    """The image store of these settings."""
    return Store(settings.image_store)


async def images_in_use(settings: Settings) -> set[str]:
    """Digests of the images of machines that are not gone."""
    if not _has_ledger(settings):
        return set()
    async with open_ledger(settings) as ledger:
        return {machine.image_digest for machine in await ledger.machines()}


async def console_of(settings: Settings, machine_id: str, max_bytes: int) -> bytes:
    """The end of a machine's console. Raises FireRunnerError for a machine that nobody knows."""
    async with existing_ledger(settings) as ledger:
        machine = await ledger.machine(machine_id)
        if machine is None:
            raise FireRunnerError(
                f"there is no machine {machine_id}", remedy="See `firerunner machines --all`"
            )
    host = next((host for host in settings.hosts if host.name == machine.host), None)
    if host is not None and host.driver == "flintlock":
        raise FireRunnerError(
            f"the console of {machine_id} is on host {host.name}: Flintlock gives it to nobody",
            remedy=f"In its --state-dir: vm/{host.namespace}/{machine_id}-*/*/firecracker.stdout",
        )
    driver = QemuDriver(settings.state_dir)
    try:
        return await driver.console(machine_id, max_bytes)
    finally:
        await driver.aclose()
