"""What Flintlock's errors mean. Pure.

Handlers return plain Go errors, so nearly all of them are UNKNOWN with a text (Flintlock
infrastructure/grpc/server.go): code and text are looked at together, and the codes that they should have
are understood as well.
"""

from __future__ import annotations

import grpc

from firerunner.errors import HostUnreachable, HostUnusable, MachineError, SpecRefused

_NO_ANSWER = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)
_REFUSED = (
    "validation failures found",
    "not supported by the microvm provider",
    "isn't available",
    "name is required",
    "decoding existing instance metadata",
)
_TOKEN = ("invalid auth token", "could not extract token")
_REMEDIES = (
    ("certificate has expired", "The certificate has expired: renew it on the host, or here if it is ours"),
    ("hostname", "The host's certificate is for another name: set `tls.server_name`, or make it anew"),
    ("verify_failed", "The host's certificate is not of an authority that `ca_file` names"),
    ("handshake", "Does the host speak TLS, and version 1.3? See its --insecure and --tls-… flags"),
    ("refused", "Is flintlockd running there?"),
)
"""By what gRPC says of why there is no connection."""

_BROKEN_OFF = (
    "Is it flintlockd that listens there, with TLS if and only if `tls` says so? Does it want a client "
    "certificate (`cert_file`, `key_file`)?"
)


class NotThere(MachineError):
    """Flintlock knows no microVM with that uid."""


def meaning(host: str, call: str, code: grpc.StatusCode, text: str) -> MachineError:
    """The error for a call that Flintlock at `host` answered with this code and text."""
    low = text.lower()
    said = f"Flintlock at {host} answers {call} with {code.name}: {text}"
    if code is grpc.StatusCode.NOT_FOUND or (code is grpc.StatusCode.UNKNOWN and "not found" in low):
        return NotThere(said)
    if code is grpc.StatusCode.UNAUTHENTICATED or any(word in low for word in _TOKEN):
        return HostUnusable(said, remedy="Is `token_file` the daemon's --basic-auth-token?")
    if code is grpc.StatusCode.INVALID_ARGUMENT or any(word in low for word in _REFUSED):
        return SpecRefused(said, remedy="Compare the pool's size, image and host with docs/flintlock.md")
    if code in _NO_ANSWER:
        return _no_answer(host, call, code, text)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return HostUnusable(said, remedy="What listens there is not Flintlock: check the host's `address`")
    return HostUnusable(said, remedy="See the journal of flintlockd on that host")


def _no_answer(host: str, call: str, code: grpc.StatusCode, text: str) -> HostUnreachable:
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return HostUnreachable(
            f"Flintlock at {host} did not answer {call} in time",
            remedy="Is the host overloaded, or a firewall between? `timeout` is the host's setting for it",
        )
    low = text.lower()
    remedy = next((remedy for word, remedy in _REMEDIES if word in low), _BROKEN_OFF)
    return HostUnreachable(f"Flintlock at {host} cannot be reached for {call}: {text}", remedy=remedy)
