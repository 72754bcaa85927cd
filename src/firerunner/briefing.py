"""What guests are told and allowed, out of the settings: the gate's facts and the driver's egress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from firerunner.errors import GitLabError, HostUnusable
from firerunner.gate import GuestFacts
from firerunner.hosting import gate_ca_pem
from firerunner.ledger import MachineRecord
from firerunner.machines.driver import Driver
from firerunner.machines.spec import Egress
from firerunner.settings import GitLabSettings, PoolSettings, Settings


class Briefing:
    """Knows the settings in force, and each pool and GitLab that was in force since the start."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        pool: Callable[[str], PoolSettings | None],
        drivers: Mapping[str, Driver],
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._drivers = drivers
        self._gitlabs: dict[str, GitLabSettings] = {}

    def egress(self, pool: PoolSettings) -> tuple[Egress, ...]:
        """Where the pool's guests may connect to. Raises GitLabError if its GitLab is not known."""
        return pool.outside(self._gitlab(pool.gitlab).destination)

    def guest_facts(self, machine: MachineRecord) -> GuestFacts:
        """What the gate must know of a machine beyond the ledger.

        A pool that was taken out of the configuration: its last jobs still have to speak. Raises GitLabError
        if its GitLab is not known: another one's address would get this one's job tokens; HostUnusable if
        its host is not.
        """
        gitlab = self._gitlab(machine.gitlab)
        pool = self._pool(machine.pool)
        driver = self._drivers.get(machine.host)
        if driver is None:
            raise HostUnusable(
                f"host {machine.host!r} of {machine.machine_id} is not configured",
                remedy="Put it back, and restart the service, until its last job has ended",
            )
        egress = self.egress(pool) if pool else (gitlab.destination,)
        gate_url = driver.guest_gate_url(machine.machine_id)
        return GuestFacts(
            gate_url=gate_url,
            clone_url=gitlab.guest_url,
            hosts=tuple((address, name) for name, address in driver.hosts_entries(egress)),
            artifacts_url=gitlab.guest_url if gitlab.destination in egress else None,
            ca_pem=_pem(gitlab.ca_file),
            gate_ca_pem=gate_ca_pem(self._settings()) if gate_url.startswith("https:") else None,
            trust_pem=_pem(pool.ca_file) if pool else None,
            runner_config=pool.runner_options if pool else {},
            docker_daemon=pool.docker_daemon if pool else {},
            hold_s=pool.hold.time if pool and pool.hold else 0.0,
            hold_limit=pool.hold.limit if pool and pool.hold else 0,
            proxy_environment=_proxy_environment(pool, gate_url),
        )

    def _gitlab(self, name: str) -> GitLabSettings:
        self._gitlabs |= {gitlab.name: gitlab for gitlab in self._settings().gitlab}
        try:
            return self._gitlabs[name]
        except KeyError:
            raise GitLabError(
                f"gitlab {name!r} is not configured", remedy="Put it back until its last job has ended"
            ) from None


def _pem(path: Path | None) -> str | None:
    return None if path is None else path.read_text(encoding="ascii", errors="replace")


def _proxy_environment(pool: PoolSettings | None, gate_url: str) -> dict[str, str]:
    """The variables by which programs find their proxy; the gate is never behind it."""
    if pool is None or pool.proxy.url is None:
        return {}
    proxy = pool.proxy.url.get_secret_value()
    ours = ("localhost", "127.0.0.1", "::1", urlsplit(gate_url).hostname or "")
    direct = ",".join((*ours, *pool.proxy.no_proxy))
    variables = {"http_proxy": proxy, "https_proxy": proxy, "no_proxy": direct}
    return variables | {name.upper(): value for name, value in variables.items()}
