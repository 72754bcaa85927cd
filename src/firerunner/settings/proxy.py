"""Settings: the HTTP proxy, and which hosts are reached without it."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator

from firerunner.machines.spec import Destination
from firerunner.settings.secrets import WithSecrets
from firerunner.settings.values import Words, checked_url

_DEFAULT_PORTS = {"http": 80, "https": 443}


class ProxySettings(WithSecrets):
    """An HTTP proxy. Nothing of the environment's `https_proxy` is read: what is in force stands here."""

    url: SecretStr | None = None
    """`http://[user:password@]host:port` of the proxy. None: connect directly."""

    no_proxy: Words = ()
    """Reached directly: host names, `.domain` suffixes, addresses, CIDR networks, or `*` for all."""

    @field_validator("url")
    @classmethod
    def _is_proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        return SecretStr(checked_url(value.get_secret_value(), user_allowed=True))

    @property
    def destination(self) -> Destination | None:
        """The proxy as an egress destination of a pool; None if there is none."""
        if self.url is None:
            return None
        parts = urlsplit(self.url.get_secret_value())
        return Destination(parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme])

    def for_url(self, url: str) -> str | None:
        """The proxy to use for this address, or None."""
        if self.url is None or bypasses(urlsplit(url).hostname or "", self.no_proxy):
            return None
        return self.url.get_secret_value()


def bypasses(host: str, no_proxy: tuple[str, ...]) -> bool:
    """True if `host` is to be reached without the proxy. Loopback always is.

    The forms are those that curl and Go understand (`NO_PROXY`): a name also stands for what is below it.
    """
    host = host.lower().rstrip(".").strip("[]")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in (entry.lower().strip() for entry in no_proxy):
        if entry == "*":
            return True
        if address is not None:
            network = _network(entry)
            if network is not None and address in network:
                return True
        elif host == entry.lstrip(".") or host.endswith("." + entry.lstrip(".")):
            return True
    return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None
