"""The listening sockets: handed over by systemd where it holds them, else bound here.

A socket that systemd holds outlives a restart of the service: connections made meanwhile wait in
its backlog instead of being refused (systemd.socket(5), sd_listen_fds(3)).
"""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Mapping

from firerunner.errors import FireRunnerError
from firerunner.settings.values import split_address

_FIRST_FD = 3
OPEN_FILES = 65_536


def listen(name: str, address: str, environ: Mapping[str, str] | None = None) -> socket.socket:
    """The listening TCP socket called `name` (systemd's `FileDescriptorName=`), or one bound to `address`.

    Raises FireRunnerError if the address cannot be bound.
    """
    handed = _handed_over(environ if environ is not None else os.environ)
    if name in handed:
        return socket.socket(fileno=handed[name], proto=socket.IPPROTO_TCP)
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named: without it answers wait 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise FireRunnerError(
            f"cannot listen on {address} for the {name}: {error.strerror}",
            remedy=f"Choose another address for `listen.{name}`, or end what uses it",
        ) from error
    return listener


def _handed_over(environ: Mapping[str, str]) -> dict[str, int]:
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(environ.get("LISTEN_FDS", "0"))
    return {name: _FIRST_FD + index for index, name in enumerate(names[:count])}


def allow_many_connections() -> None:
    """Raise the soft limit on open files: shells give 1024, and gate and web take more clients than that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
