"""The session through which python-gitlab speaks: trust and proxy of the settings, not of the environment."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from firerunner.gitlab.http import new_trust


def new_session(*, ca_file: Path | None = None, proxy: str | None = None) -> requests.Session:
    """As `new_http` does it for httpx. Raises `SettingsError` for a CA file that cannot be used."""
    session = requests.Session()
    session.trust_env = False
    session.mount("https://", _Trusting(new_trust(ca_file)))
    if proxy is not None:
        session.mount("http://", _Trusting(new_trust(ca_file)))
        session.proxies = {"http": proxy, "https": proxy}
    return session


class _Trusting(HTTPAdapter):
    """Trusts what the context trusts, where requests trusts its own bundle instead of the system's."""

    def __init__(self, trust: ssl.SSLContext) -> None:
        self._trust = trust
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._trust)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(
            proxy, **kwargs, ssl_context=self._trust, proxy_ssl_context=self._trust
        )

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """The context is all there is to verify with; requests would add its own bundle here."""
