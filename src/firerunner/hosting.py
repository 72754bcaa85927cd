"""What makes machines on each host, out of the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from firerunner.errors import SettingsError
from firerunner.machines.flintlock.channel import Endpoint, Tls
from firerunner.machines.flintlock.client import FlintlockClient
from firerunner.machines.flintlock.driver import FlintlockDriver
from firerunner.machines.flintlock.request import Place
from firerunner.machines.qemu import QemuDriver
from firerunner.settings import HostSettings, Settings

HostDriver = QemuDriver | FlintlockDriver


def driver_of(settings: Settings, host: HostSettings) -> HostDriver:
    """What makes machines on this host. The caller closes it. Raises SettingsError for unusable files."""
    return _flintlock(settings, host) if host.driver == "flintlock" else _qemu(settings, host)


@asynccontextmanager
async def opened(settings: Settings, host: HostSettings) -> AsyncIterator[HostDriver]:
    """The driver of a host for a moment. Raises SettingsError for unusable files."""
    driver = driver_of(settings, host)
    try:
        yield driver
    finally:
        await driver.aclose()


def _qemu(settings: Settings, host: HostSettings) -> QemuDriver:
    return QemuDriver(
        settings.state_dir,
        vcpu=None if host.vcpu is None else int(host.vcpu * host.overcommit_vcpu),
        memory_mib=None if host.memory_mib is None else int(host.memory_mib * host.overcommit_memory),
        disk_mib=host.disk_mib,
        disk_dir=host.disk_dir,
        keep_free_mib=host.keep_free_mib,
    )


def _flintlock(settings: Settings, host: HostSettings) -> FlintlockDriver:
    assert host.address is not None  # noqa: S101  (the settings see to it)
    given = host.tls
    tls = Tls(given.ca_file, given.cert_file, given.key_file, given.server_name) if given else None
    token = host.token.get_secret_value() if host.token else None
    client = FlintlockClient(Endpoint(host.address, tls, token), timeout_s=host.timeout)
    place = Place(host.namespace, host.gate_url, host.bridge, gate_ca_pem(settings))
    return FlintlockDriver(client, place, host.room)


def gate_ca_pem(settings: Settings) -> str | None:
    """By what guests of other hosts know the gate. Raises SettingsError."""
    path = settings.listen.gate_ca_file
    if path is None:
        return None
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot use {path}: {error}", remedy="`listen.gate_ca_file` is PEM") from error
