"""A connection to one Flintlock: TLS with certificates of both sides, and the token of its API."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio

from firerunner.errors import SettingsError

MAX_MESSAGE_BYTES = 64 << 20
"""A list holds the metadata of every microVM, and has no pages; gRPC's own limit is 4 MiB."""

KEEP_ALIVE = (
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)
"""A host that vanishes is noticed between calls; repeating a call is the client's business."""

_RECONNECT = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 5_000))


@dataclass(frozen=True, slots=True)
class Tls:
    """What to trust, and what to show. Flintlock speaks TLS 1.3 and nothing older."""

    ca_file: Path | None = None
    """PEM bundle; None: the system's."""
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    """The name in the host's certificate, where it is not that of the address."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a Flintlock listens, and how it is talked to."""

    address: str
    """host:port"""
    tls: Tls | None
    """None: in clear, as with flintlockd --insecure."""
    token: str | None = field(default=None, repr=False)


def open_channel(endpoint: Endpoint) -> grpc.aio.Channel:
    """A channel that connects when it is first used. Raises SettingsError for a file that cannot be read."""
    options: list[tuple[str, int | str]] = [*KEEP_ALIVE, *_RECONNECT]
    if endpoint.tls is None:
        return grpc.aio.insecure_channel(endpoint.address, options=options)
    tls = endpoint.tls
    if tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca_file),
        private_key=_read(tls.key_file),
        certificate_chain=_read(tls.cert_file),
    )
    return grpc.aio.secure_channel(endpoint.address, credentials, options=options)


def call_metadata(endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    """The header that the daemon's --basic-auth-token asks for: the token alone, in base64."""
    if endpoint.token is None:
        return ()
    return (("authorization", f"basic {base64.b64encode(endpoint.token.encode()).decode()}"),)


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"cannot read {path}: {error.strerror}", remedy="Check the host's `tls`"
        ) from error
