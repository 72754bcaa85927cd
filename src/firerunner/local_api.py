"""Speaks to the operator API of the service on this computer, with the token of its own configuration."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from firerunner.errors import FireRunnerError, SettingsError
from firerunner.settings import Settings
from firerunner.settings.values import split_address
from firerunner.web.api import PREFIX

PATIENCE_S = 90.0
"""Longer than any answer of it takes."""
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@asynccontextmanager
async def local_api(settings: Settings) -> AsyncIterator[LocalApi]:
    """Raises SettingsError if nobody may act through the API."""
    token = settings.api.operate_token
    if token is None:
        raise SettingsError(
            "nobody may act through the API, by which this goes",
            remedy="Set `api.operate_token_file` (see docs/api.md) and reload the service",
        )
    host, port = split_address(settings.listen.web)
    host = _ANYWHERE.get(host, host)
    scheme = "https" if settings.listen.web_cert_file else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    async with httpx.AsyncClient(
        base_url=f"{address}{PREFIX}",
        headers={"Authorization": f"Bearer {token.get_secret_value()}"},
        timeout=PATIENCE_S,
        trust_env=False,
        verify=_only_our_certificate(settings),
    ) as http:
        yield LocalApi(http, address)


class LocalApi:
    """One connection."""

    def __init__(self, http: httpx.AsyncClient, address: str) -> None:
        self._http = http
        self._address = address

    async def act(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST. Raises FireRunnerError with what the service says."""
        try:
            answer = await self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise FireRunnerError(
                f"the service does not answer at {self._address}: {type(error).__name__}",
                remedy="Does `firerunner serve` run here with this --config?",
            ) from error
        said = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else {}
        if answer.is_error:
            raise FireRunnerError(f"the service refused ({answer.status_code}): {said.get('message', '')}")
        return dict(said)


def _only_our_certificate(settings: Settings) -> ssl.SSLContext | bool:
    """Whatever name is in it: it is the one of the configuration that tells the service from others."""
    path = settings.listen.web_cert_file
    if path is None:
        return True
    context = ssl.create_default_context(cafile=str(path))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
