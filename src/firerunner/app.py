"""Opens what a configuration names: ledger, images, state; for the service and for commands."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from firerunner.clock import SteadyClock
from firerunner.errors import FireRunnerError, KeyMissing
from firerunner.images import Store
from firerunner.ledger import Keyring, Ledger, MachineRecord
from firerunner.machines.qemu import QemuDriver
from firerunner.settings import Settings
from firerunner.telemetry import LogFile

MIB = 1024 * 1024
DAY_S = 86_400.0


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
async def existing_ledger(settings: Settings, *, key_is_there: bool = False) -> AsyncIterator[Ledger]:
    """The ledger of a service that has run before; a look at it makes nothing and leaves its tables as they
    are. Raises FireRunnerError.

    `key_is_there`: so has its key file to be, which is else made.
    """
    must_have_ledger(settings)
    if key_is_there and not settings.key_file.exists():
        raise KeyMissing(
            f"there is no key file at {settings.key_file}",
            remedy="Restore it from its backup: the secrets in the ledger cannot be read without it",
        )
    async with open_ledger(settings, as_it_is=True) as ledger:
        yield ledger


def must_have_ledger(settings: Settings) -> None:
    """Raises FireRunnerError if no service has run before."""
    if not _has_ledger(settings):
        raise FireRunnerError(
            f"there is no ledger at {settings.database_url}",
            remedy="Has `firerunner serve` run with this --config?",
        )


def _has_ledger(settings: Settings) -> bool:
    kind, _, path = settings.database_url.partition(":///")
    return kind != "sqlite" or Path(path).exists()


@asynccontextmanager
async def open_ledger(settings: Settings, *, as_it_is: bool = False) -> AsyncIterator[Ledger]:
    """The ledger of these settings, made if it is not there, and up to date; `as_it_is`: see `Ledger`."""
    keys = Keyring.load_or_create(settings.key_file)
    ledger = await Ledger.open(settings.database_url, keys, SteadyClock(), as_it_is=as_it_is)
    try:
        yield ledger
    finally:
        await ledger.aclose()


def log_file(settings: Settings) -> LogFile | None:
    """The file to log to; None: standard error."""
    log = settings.log
    if log.file is None:
        return None
    return LogFile(log.file, log.max_mib * MIB, log.keep_files, log.keep_days * DAY_S, log.compress)


def image_store(settings: Settings) -> Store:
    """The image store of these settings."""
    return Store(settings.image_store)


async def images_in_use(settings: Settings) -> set[str]:
    """Digests of the images of machines that are not gone."""
    if not _has_ledger(settings):
        return set()
    async with open_ledger(settings, as_it_is=True) as ledger:
        return {machine.image_digest for machine in await ledger.machines()}


async def console_of(settings: Settings, machine: MachineRecord, max_bytes: int) -> bytes:
    """The end of a machine's console. Raises FireRunnerError if its host gives it to nobody."""
    host = next((host for host in settings.hosts if host.name == machine.host), None)
    if host is not None and host.driver == "flintlock":
        raise FireRunnerError(
            f"the console of {machine.machine_id} is on host {host.name}: Flintlock gives it to nobody",
            remedy=f"In its --state-dir: vm/{host.namespace}/{machine.machine_id}-*/*/firecracker.stdout",
        )
    driver = QemuDriver(settings.state_dir)
    try:
        return await driver.console(machine.machine_id, max_bytes)
    finally:
        await driver.aclose()
