"""How much time and room a listening socket gives its clients."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Time is bounded only where nothing is being worked on: before and between requests, and where an
    answer is not taken. A request whose head is complete may take as long as its application lets it."""

    head_s: float = 30.0
    """For the TLS handshake; from then on for the whole head of the first request; from its first byte on for
    that of each further one. Also for what is still sent of a body after its request has been answered."""

    keep_alive_s: int = 60
    """A connection with nothing on it is kept so long for the next request."""

    stalled_s: float = 300.0
    """A client who does not read its answer is cut off after so long."""

    connections: int = 4096
    """At a time. The one that has waited longest without a request gives way to a new one."""

    head_bytes: int = 65_536
    """Of a request: its line and its headers."""

    headers: int = 100
    """Of a request. GitLab sends about ten and up to twenty of the hook's own."""


GATE_BOUNDS = Bounds()
"""For guests: theirs are few, slow under emulation, and behind a keeper of ours."""

WEB_BOUNDS = Bounds(head_s=10.0, stalled_s=30.0, connections=512)
"""For whoever can reach the web socket, the internet included."""
