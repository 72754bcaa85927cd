"""The one way to make an HTTP client for GitLab: pool, limits, time-outs, trust."""

from __future__ import annotations

import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path

import httpx

from firerunner import __version__
from firerunner.errors import SettingsError
from firerunner.gitlab.carrying import ByTransport, Carrier, Http
from firerunner.gitlab.connections import Connections
from firerunner.gitlab.measured import Heard, Measured, unheard

USER_AGENT = f"firerunner/{__version__}"

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
"""For short calls; long polls and artifacts give their own with the request."""
WRITE_TIMEOUT_S = 30.0
POOL_TIMEOUT_S = 5.0

KEEPALIVE_EXPIRY_S = 30.0
"""Shorter than the 60 to 75 s after which usual front ends close an idle connection: a request sent
on a connection that is just being closed is lost without an answer."""


def new_http(
    *,
    ca_file: Path | None = None,
    proxy: str | None = None,
    max_connections: int = 500,
    max_idle_connections: int = 100,
    heard: Heard = unheard,
) -> Http:
    """A client for one GitLab. Close it with `aclose()`.

    Proxy variables and netrc of the environment are not read (`trust_env` is off), redirects are not
    followed, and cookies are never kept: one client serves many jobs, which must not share anything.
    `ca_file` is a PEM bundle that is trusted in addition to the system's, also for a proxy by HTTPS.
    `heard` is told of each call. Raises `SettingsError`.
    """
    trust = new_trust(ca_file)
    limits = httpx.Limits(
        max_connections=max_connections,
        max_keepalive_connections=max_idle_connections,
        keepalive_expiry=KEEPALIVE_EXPIRY_S,
    )
    carrier: Carrier = Connections(trust, limits) if proxy is None else _by_proxy(proxy, trust, limits)
    return Http(
        Measured(carrier, heard),
        trust_env=False,
        follow_redirects=False,
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        headers={"User-Agent": USER_AGENT},
        timeout=httpx.Timeout(
            connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S, write=WRITE_TIMEOUT_S, pool=POOL_TIMEOUT_S
        ),
    )


def new_trust(ca_file: Path | None) -> ssl.SSLContext:
    """The system's certificate authorities and those of a PEM bundle. Raises `SettingsError`."""
    trust = ssl.create_default_context()
    if ca_file is not None:
        try:
            trust.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"the CA file {ca_file} cannot be used: {error}",
                remedy="give a readable PEM file with at least one certificate",
            ) from error
    return trust


def _by_proxy(proxy: str, trust: ssl.SSLContext, limits: httpx.Limits) -> ByTransport:
    """httpx's own transport, which knows every kind of proxy."""
    way = httpx.Proxy(proxy, ssl_context=trust if proxy.startswith("https:") else None)
    return ByTransport(
        httpx.AsyncHTTPTransport(
            verify=trust, proxy=way, limits=limits, trust_env=False, http1=True, http2=False
        )
    )
